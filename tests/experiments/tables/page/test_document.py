import base64
import hashlib
import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from experiments.__main__ import main
from experiments.record import RunRecord
from experiments.tables.comparison import compare
from experiments.tables.page.document import write_page
from experiments.tables.reports.report import write_report
from experiments.tables.table_files import load_table

RecordRun = Callable[..., RunRecord]
WriteTable = Callable[..., Path]
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"

pytestmark = pytest.mark.usefixtures("networks")


class Parsed(HTMLParser):
    """A page as a browser's parser takes it: tags with their attributes, and cells' texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[tuple[dict[str, str | None], str]] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append((dict(attrs), ""))
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self.cells:
            attributes, text = self.cells[-1]
            self.cells[-1] = (attributes, text + data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.tags if "id" in attributes]

    @property
    def data(self) -> dict[str, Any]:
        return dict(json.loads(self.scripts[0]))


def page_of(*names: str, file: Path = Path("page.html"), **options: Any) -> str:
    comparisons = [
        compare(load_table(name), Path("runs"), committed=Path("results"), costs=True)
        for name in names or ("small",)
    ]
    write_page(comparisons, file, **options)
    return file.read_text(encoding="utf-8")


def links(text: str) -> list[str]:
    return [str(attributes["href"]) for attributes in Parsed(text).all("a")]


def test_the_page_loads_nothing(record_run: RecordRun) -> None:
    record_run("operator", 7)
    text = page_of()
    page = Parsed(text)
    assert not any("src" in attributes for _, attributes in page.tags)
    assert page.all("link") == [{"rel": "icon", "href": "data:,"}]
    (style,) = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style


def test_no_script_may_run_but_the_pages_own(table: Path) -> None:
    page = Parsed(page_of())
    (policy,) = (m["content"] for m in page.all("meta") if "http-equiv" in m)
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy


def test_no_text_can_become_markup(
    content: dict[str, Any], write_table: WriteTable, record_run: RecordRun
) -> None:
    content["title"] = content["rows"][0]["label"] = content["paper"]["title"] = HOSTILE
    content["notes"] = [HOSTILE]
    write_table(content)
    record_run("operator", 7, hardware={"cpu": HOSTILE})
    record_run("operator", 8, status="failed", why=HOSTILE)
    other = record_run("operator", 9, command="test")
    other.update(row=HOSTILE)
    text = page_of(others=[other])
    page = Parsed(text)
    assert len(page.scripts) == 2
    assert not page.all("img")
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    shown = [cell for _, cell in page.cells if HOSTILE in cell]
    assert f"does not count: failed: {HOSTILE}" in shown
    assert HOSTILE in shown


def test_the_same_records_give_the_same_page(record_run: RecordRun) -> None:
    record_run("operator", 7)
    assert page_of(file=Path("one.html")) == page_of(file=Path("two.html"))


def test_an_identity_occurs_once_and_every_link_within_the_page_leads_somewhere(
    content: dict[str, Any], write_table: WriteTable, record_run: RecordRun
) -> None:
    record_run("operator", 7)
    write_table(content | {"id": "other"}, "other")
    text = page_of("small", "other")
    ids = Parsed(text).ids
    assert [name for name, times in Counter(ids).items() if times > 1] == []
    assert {"small", "other", "small.baseline", "other.operator"} <= set(ids)
    within = {link[1:] for link in links(text) if link.startswith("#")}
    assert {"small", "other"} <= within <= set(ids)


def test_every_header_says_what_it_heads(record_run: RecordRun) -> None:
    record_run("operator", 7)
    headers = Parsed(page_of()).all("th")
    assert headers
    assert {header.get("scope") for header in headers} == {"col", "row", "rowgroup"}


def test_a_number_outside_its_band_has_a_colour_a_sign_and_an_explanation(
    record_run: RecordRun,
) -> None:
    for seed, accuracy in ((7, 0.50), (8, 0.51), (9, 0.52)):
        record_run("operator", seed, accuracy, epochs=3)
    marked = [cell for cell in Parsed(page_of()).cells if cell[0].get("class") == "below"]
    assert "▼ 51.000 ± 1.000" in [text for _, text in marked]
    assert all("3 epochs, published with 15" in str(cell["title"]) for cell, _ in marked)


def test_a_number_inside_its_band_has_none(record_run: RecordRun) -> None:
    record_run("operator", 7, 0.911)
    record_run("operator", 8, 0.912)
    text = page_of()
    assert "91.150" in text
    assert not {"above", "below"} & {cell.get("class") for cell, _ in Parsed(text).cells}


def test_an_empty_cell_says_why(
    content: dict[str, Any], write_table: WriteTable, record_run: RecordRun
) -> None:
    content["rows"][0]["values"]["avg"] = None
    content["rows"][0]["empty"] = {"avg": "the paper left it out"}
    write_table(content)
    record_run("operator", 7, 0.911)
    record_run("baseline", 7, status="failed", why="no data")
    reasons = {
        str(cell["title"])
        for cell, text in Parsed(page_of()).cells
        if cell.get("class") == "empty" and not text
    }
    assert "the paper left it out" in reasons
    assert "no run counts yet; the newest: failed: no data" in reasons
    assert "None" not in reasons


def test_the_baseline_says_why_it_has_no_gain(record_run: RecordRun) -> None:
    record_run("operator", 7, 0.911)
    record_run("baseline", 7, 0.902)
    reasons = [cell.get("title") for cell, _ in Parsed(page_of()).cells]
    assert "this row is not measured over another one" in reasons


def test_numbers_lead_to_config_and_record_from_wherever_the_page_lies(
    record_run: RecordRun,
) -> None:
    record = record_run("operator", 7)
    page = Path("a folder/pages/page.html")
    files = [
        (page.parent / unquote(link)).resolve()
        for link in links(page_of(file=page))
        if not link.startswith(("#", "https:"))
    ]
    assert (record.folder / "run.json").resolve() in files
    assert Path("configs/own/operator.yaml").resolve() in files
    assert all(file.is_file() for file in files)


def test_configs_can_be_linked_on_the_web(record_run: RecordRun) -> None:
    record_run("operator", 7)
    found = links(page_of(base="https://example.org/suite/"))
    assert "https://example.org/suite/configs/own/operator.yaml" in found


def test_a_run_of_a_committed_report_leads_to_its_line(record_run: RecordRun) -> None:
    record_run("operator", 7, 0.911)
    write_report(compare(load_table("small"), Path("runs")), Path("results/small"), ["csv"])
    Path("runs").rename("elsewhere")
    text = page_of()
    assert "91.100" in text
    assert "results/small/runs.csv" in links(text)


def test_every_run_is_shown_with_its_origin(record_run: RecordRun) -> None:
    record_run("operator", 7, 0.95, images_per_second=1234.5, devices={"precision": "bf16-mixed"})
    record_run("operator", 8, overrides=("trainer.max_epochs=1",))
    cells = [text for _, text in Parsed(page_of()).cells]
    start = cells.index("seed 7")
    assert cells[start + 1 : start + 10] == [
        *("95.000", "counts", "15", "1,234", "60.0", "bf16-mixed"),
        *("made-up CPU, 1 thread", "c0ffeec0ffee", "made-up-001"),
    ]
    assert cells[cells.index("seed 8") + 2] == "does not count: trainer.max_epochs was 1, now 15"


def test_every_row_says_how_it_is_reproduced(table: Path) -> None:
    text = page_of()
    assert "python -m experiments fit --config configs/own/operator.yaml<" in text


def test_under_a_recipe_the_row_is_reproduced_with_it(record_run: RecordRun) -> None:
    recipe = Path("configs/recipes/short.yaml")
    recipe.parent.mkdir()
    recipe.write_text(yaml.safe_dump({"trainer": {"max_epochs": 1}}))
    record_run("operator", 7, overrides=("trainer.max_epochs=1",))
    comparison = compare(load_table("small"), Path("runs"), recipe=recipe, costs=True)
    assert comparison.records
    write_page([comparison], Path("page.html"))
    text = Path("page.html").read_text(encoding="utf-8")
    assert "fit --config configs/own/operator.yaml --recipe configs/recipes/short.yaml<" in text
    assert "small.short" in Parsed(text).ids


def test_the_plots_show_the_tables_numbers(record_run: RecordRun) -> None:
    record_run("operator", 7, 0.91, parameters={"training": 12, "fused": 10}, multiply_adds=99)
    record_run("operator", 8, 0.93, parameters={"training": 12, "fused": 10}, multiply_adds=99)
    row = Parsed(page_of()).data["rows"]["small.operator"]
    assert row["published"] == 91.125
    assert row["mean"] == pytest.approx(92.0)
    assert row["spread"] == pytest.approx(2**0.5, rel=1e-3)
    assert (row["parameters"], row["multiplyAdds"]) == (10, 99)
    assert [(label, counted) for _, label, counted in row["runs"]] == [
        ("seed 7", True),
        ("seed 8", True),
    ]


def test_what_the_page_reads_is_packaged(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    packaged = project["tool"]["setuptools"]["package-data"]["experiments.tables.page"]
    folder = repository / "experiments" / "tables" / "page"
    there = {f.name for f in folder.iterdir() if f.is_file() and f.suffix != ".py"}
    assert set(packaged) == there


def test_a_report_of_several_tables_makes_one_page(
    content: dict[str, Any], write_table: WriteTable, record_run: RecordRun
) -> None:
    record_run("operator", 7, 0.911)
    write_table(content | {"id": "other"}, "other")
    words = ["table", "report", "small", "other", "--out", "out", "--formats", "csv"]
    assert main([*words, "--html", "out/all.html"]) == 0
    page = Path("out/all.html").read_text(encoding="utf-8")
    assert {"small", "other"} <= set(Parsed(page).ids)
