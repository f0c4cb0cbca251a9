"""A comparison as a LaTeX table with the rules of booktabs."""

from collections.abc import Sequence

from experiments.tables.cells import CellColumn, comparison_columns
from experiments.tables.comparison import Comparison
from experiments.tables.reports.footnotes import deviations, footnotes
from experiments.tables.terminal import reference

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "[": "{[}",
    "]": "{]}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "±": r"\ensuremath{\pm}",
    "\N{MULTIPLICATION SIGN}": r"\ensuremath{\times}",
    "\N{GREEK SMALL LETTER GAMMA}": r"\ensuremath{\gamma}",
    "\N{RIGHTWARDS ARROW}": r"\ensuremath{\to}",
}


def escape(text: str) -> str:
    """Plain text as LaTeX source; a minus sign before a digit is one."""
    escaped = "".join(SPECIAL.get(character, character) for character in text)
    words = escaped.split(" ")
    return " ".join(f"$-${word[1:]}" if _is_negative(word) else word for word in words)


def as_latex(comparison: Comparison) -> str:
    """The table, its caption and its notes; needs booktabs and graphicx."""
    table, columns = comparison.table, comparison_columns(comparison)
    rows = zip(*(_cells(column) for column in columns), strict=True)
    notes = [*footnotes(comparison), *deviations(comparison)]
    lines = [
        r"% needs \usepackage{booktabs,graphicx}",
        r"\begin{table}",
        r"\centering\footnotesize",
        rf"\caption{{{escape(table.title)}. {escape(reference(table))}.}}",
        rf"\label{{tab:{table.id}}}",
        # Shrunk to the width of the page where it is wider.
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{",
        rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
        r"\toprule",
        _line([_header(column.header) for column in columns]),
        r"\midrule",
        *(_line(row) for row in rows),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\begin{flushleft}",
        *(rf"{escape(note)}.\par" for note in notes),
        r"\end{flushleft}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _is_negative(word: str) -> bool:
    return len(word) > 1 and word[0] == "-" and word[1].isdigit()


def _header(text: str) -> str:
    """A header over several lines: the unit or interval stands below, words are not far apart."""
    first, _, below = text.partition(" (")
    name = escape(first)
    if not below:
        return name
    return rf"\begin{{tabular}}[b]{{@{{}}r@{{}}}}{name}\\({escape(below)}\end{{tabular}}"


def _cells(column: CellColumn) -> list[str]:
    tones = column.tones or [""] * len(column.cells)
    cells = zip(map(escape, column.cells), tones, strict=True)
    return [rf"\textbf{{{cell}}}" if tone and cell else cell for cell, tone in cells]


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
