"""One self-contained HTML page of any tables: no network, no file beside it, no framework."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from experiments.record import RunRecord
from experiments.tables.comparison import Comparison
from experiments.tables.page.data import Curves, embedded, point
from experiments.tables.page.elements import as_html, element
from experiments.tables.page.links import Links
from experiments.tables.page.runs import run_id, run_rows
from experiments.tables.page.sections import row_id, table_section, title
from experiments.tables.spec import TableSpec
from experiments.whole_file import whole_file

TITLE = "convsuite: published and reproduced"
OTHER_RUNS = "other-runs"


def write_page(
    comparisons: Sequence[Comparison],
    file: Path,
    *,
    others: Sequence[RunRecord] = (),
    base: str | None = None,
) -> None:
    """Write the page.

    Args:
        comparisons: What to show, with costs.
        file: Where to write it; its folder is made if it is not there.
        others: Runs of no table, shown after the tables.
        base: Address that the config files are linked below, None: where they lie.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    text = as_page(comparisons, Links(file, base), others)
    with whole_file(file) as aside:
        aside.write_text(text, encoding="utf-8", errors="replace")


def as_page(
    comparisons: Sequence[Comparison], links: Links, others: Sequence[RunRecord] = ()
) -> str:
    """The page as HTML; the same for the same tables and run records."""
    papers = _by_paper(comparisons)
    body = element(
        "body",
        element("a", "To the tables", href="#tables", class_="skip"),
        element(
            "header",
            element("h1", TITLE),
            element("p", _in_short(comparisons, others), class_="quiet"),
        ),
        _tools(),
        element(
            "main",
            _index(papers, others),
            *(_paper(members, links) for members in papers),
            _other_runs(others, links),
            id="tables",
        ),
        element(
            "script", embedded(_drawn(comparisons, others)), type="application/json", id="page-data"
        ),
        element("script", _asset("page.js")),
    )
    return "<!doctype html>\n" + as_html(element("html", _head(), body, lang="en")) + "\n"


def _by_paper(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    """The tables of each paper together, papers in the order of their first tables."""
    order = list(dict.fromkeys(_paper_of(one) for one in comparisons))
    ordered = sorted(comparisons, key=lambda one: order.index(_paper_of(one)))
    return [list(members) for _, members in groupby(ordered, key=lambda one: _paper_of(one))]


def _paper_of(comparison: Comparison) -> str:
    """What tells a paper from the others."""
    return f"{comparison.table.paper['title']} {comparison.table.paper['year']}"


def _head() -> Element:
    # Nothing is loaded from anywhere, and no script runs but the one that is written here.
    digest = base64.b64encode(hashlib.sha256(_asset("page.js").encode()).digest()).decode()
    allowed = f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element(
            "meta", http_equiv="Content-Security-Policy", content=f"default-src 'none'; {allowed}"
        ),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", TITLE),
        element("style", _asset("page.css")),
    )


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _tools() -> Element:
    """What only the script can do; it shows them."""
    return element(
        "div",
        element(
            "div",
            element(
                "input",
                type="search",
                id="page-filter",
                placeholder="Filter rows and tables",
                aria_label="Filter rows and tables",
            ),
            element("label", element("input", type="checkbox", id="page-with-runs"), "with runs"),
            element("output", id="page-shown", aria_live="polite"),
            element("button", "Dark", type="button", id="page-theme", aria_label="Light or dark"),
        ),
        class_="tools",
        hidden="hidden",
    )


def _in_short(comparisons: Sequence[Comparison], others: Sequence[RunRecord]) -> str:
    rows = [row for one in comparisons for row in one.rows]
    ours = sum(bool(row.row.config) for row in rows)
    run = sum(bool(row.records) for row in rows)
    outside = sum(row.verdict.outside for row in rows)
    more = f" {_many(len(others), 'run')} of no table." if others else ""
    return (
        f"{_many(len(comparisons), 'table')} of {_many(len(rows), 'row')}; {ours} have a config, "
        f"{run} have runs that count, {outside} of these left the expected band.{more}"
    )


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _index(papers: Sequence[Sequence[Comparison]], others: Sequence[RunRecord]) -> Element:
    names = ("table", "rows with runs", "runs")
    header = element("thead", element("tr", *(element("th", n, scope="col") for n in names)))
    groups = []
    for members in papers:
        paper = element("th", members[0].table.paper["title"], class_="paper", colspan="3")
        paper.set("scope", "rowgroup")
        lines = [_index_line(comparison) for comparison in members]
        groups.append(element("tbody", element("tr", paper), *lines))
    if others:
        link = element("a", "Runs of no table", href=f"#{OTHER_RUNS}")
        line = element("tr", element("th", link, scope="row"), element("td"))
        line.append(element("td", str(len(others))))
        groups.append(element("tbody", line))
    table = element("table", header, *groups, class_="index")
    return element("nav", table, aria_label="Tables")


def _index_line(comparison: Comparison) -> Element:
    rows = [row for row in comparison.rows if row.row.config]
    done = sum(bool(row.records) for row in rows)
    link = element("a", title(comparison), href=f"#{comparison.name}")
    if rows:
        bar = element("progress", value=str(done), max=str(len(rows)), aria_hidden="true")
        progress = element("td", f"{done} of {len(rows)}", bar)
    else:
        progress = element("td", class_="empty", title="the suite has no config of its rows")
    runs = element("td", str(len(comparison.records)))
    return element("tr", element("th", link, scope="row"), progress, runs)


def _paper(members: Sequence[Comparison], links: Links) -> Element:
    table = members[0].table
    return element(
        "div",
        element("h2", table.paper["title"]),
        element("p", *_reference(table), class_="quiet"),
        *(table_section(comparison, links) for comparison in members),
        class_="papers",
    )


def _reference(table: TableSpec) -> tuple[str | Element, ...]:
    paper, arxiv = table.paper, table.paper.get("arxiv")
    authors = ", ".join(paper["authors"] or [])
    text = f"{authors}{'. ' if authors else ''}{paper['venue']} {paper['year']}"
    if not arxiv:
        return (text,)
    return (f"{text}, ", element("a", f"arXiv {arxiv}", href=f"https://arxiv.org/abs/{arxiv}"))


def _other_runs(records: Sequence[RunRecord], links: Links) -> Element | None:
    if not records:
        return None
    section = element(
        "section",
        element("h2", element("a", "Runs of no table", href=f"#{OTHER_RUNS}")),
        element(
            "p",
            "Each with the numbers that it recorded; they are of different tasks.",
            class_="quiet",
        ),
        run_rows(records, links),
        id=OTHER_RUNS,
        data_words="runs of no table",
    )
    return element("div", section, class_="papers")


def _drawn(comparisons: Sequence[Comparison], others: Sequence[RunRecord]) -> dict[str, Any]:
    """What the script draws: a point and curves for each row."""
    curves, rows = Curves(), dict[str, Any]()
    for comparison in comparisons:
        for row in comparison.rows:
            left_out = (left.record for left in row.left_out)
            runs = curves.places(row.records, counted=True)
            runs += curves.places(left_out, counted=False)
            rows[row_id(comparison, row)] = {**point(row), "runs": runs}
    for record in others:
        rows[run_id(record)] = {"runs": curves.places([record], counted=True)}
    return {"rows": rows, **curves.drawn()}
