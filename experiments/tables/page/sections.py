"""A table's section of the page: its rows, and what each row opens."""

import shlex
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from experiments.tables.cells import UNIT_SIGNS
from experiments.tables.comparison import Comparison, RowComparison
from experiments.tables.page.columns import Cell, page_columns, why_not_run
from experiments.tables.page.elements import element, folded, items, scrolling
from experiments.tables.page.links import Links
from experiments.tables.page.runs import runs_of_row
from experiments.tables.reports.footnotes import deviations, footnotes
from experiments.tables.reports.report import how_it_was_made, published_facts

FEW = 8  # lines that are shown without asking


def table_section(comparison: Comparison, links: Links) -> Element:
    """Everything about a table."""
    table, reproduce = comparison.table, comparison.reproduce
    about = f"Data set: {table.dataset}. Numbers: {'; '.join(table.source)}."
    if comparison.recipe:
        about += f" Trained here with {comparison.recipe}."
    outside = deviations(comparison)
    made = how_it_was_made(comparison) if comparison.records else []
    return element(
        "section",
        element("h3", element("a", title(comparison), href=f"#{comparison.name}")),
        element("p", about, class_="quiet"),
        _results(comparison, links),
        folded(f"Outside what is expected: {len(outside)}", outside, unfolded=len(outside) < FEW),
        folded("Remarks", table.remarks, unfolded=True),
        element("div", class_="plots"),
        folded("What the columns mean", footnotes(comparison)),
        folded("How it was made", made),
        folded("What is known of the published runs", published_facts(table)),
        id=comparison.name,
        data_words=f"{comparison.name} {table.title} {table.paper['title']} {table.dataset}",
        data_unit=UNIT_SIGNS.get(comparison.unit, comparison.unit),
        data_quantity=reproduce.quantity if reproduce else "",
    )


def title(comparison: Comparison) -> str:
    """A table's title, with the recipe that its runs were trained with here, if any."""
    with_recipe = f", {comparison.recipe.stem}" if comparison.recipe else ""
    return f"{comparison.table.title}{with_recipe}"


def row_id(comparison: Comparison, row: RowComparison) -> str:
    """Where a link to a row leads."""
    return f"{comparison.name}.{row.row.key}"


def _results(comparison: Comparison, links: Links) -> Element:
    """The table itself: a `tbody` for each row, of its numbers and of what it opens."""
    columns = page_columns(comparison)
    names = (element("th", c.header, scope="col", title=c.meaning) for c in columns)
    header = element("thead", element("tr", element("th", "row", scope="col"), *names))
    bodies = [
        _row(comparison, row, [column.cells[place] for column in columns], links)
        for place, row in enumerate(comparison.rows)
    ]
    return scrolling(element("table", header, *bodies, class_="results"), title(comparison))


def _row(
    comparison: Comparison, row: RowComparison, cells: Sequence[Cell], links: Links
) -> Element:
    identity = row_id(comparison, row)
    shown = (
        element("td", c.text, class_=c.mark if c.text else "empty", title=c.why) for c in cells
    )
    detail = element("td", _detail(comparison, row, links), class_="detail-cell")
    detail.set("colspan", str(len(cells) + 1))
    return element(
        "tbody",
        element("tr", element("th", row.row.label, scope="row"), *shown),
        element("tr", detail, id=f"{identity}.detail"),
        id=identity,
        data_label=row.row.label,
        data_words=f"{row.row.label} {row.row.name or ''} {row.row.key}",
        data_runs=str(len(row.records) + len(row.left_out)),
    )


def _detail(comparison: Comparison, row: RowComparison, links: Links) -> Element:
    facts: list[tuple[str, Element | str | None]] = []
    if row.row.config is None:
        facts.append(("config", "none: the suite does not train this row"))
    else:
        config = row.row.config.as_posix()
        facts.append(("config", element("a", config, href=links.config(row.row.config))))
        words = ["python", "-m", "experiments", "fit", "--config", config]
        words += ["--recipe", comparison.recipe.as_posix()] if comparison.recipe else []
        facts.append(("reproduce", element("code", shlex.join(words), class_="command")))
    if not row.records and comparison.reproduce:
        facts.append(("runs", why_not_run(row)))
    if row.verdict.outside:
        facts.append((f"{row.verdict.value} what is expected", items(row.explanations)))
    facts.append(("notes", items(row.row.notes)))
    terms = (
        part
        for name, value in facts
        if value is not None
        for part in (element("dt", name), element("dd", value))
    )
    runs = runs_of_row(comparison, row, links)
    return element(
        "div", element("dl", *terms), element("div", class_="plots"), runs, class_="detail"
    )
