import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.record import RunRecord
from experiments.tables.comparison import compare
from experiments.tables.reports.latex import as_latex, escape
from experiments.tables.table_files import load_table


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("50 % & a_b #1 $2", r"50 \% \& a\_b \#1 \$2"),
        ("{x} ~ ^", r"\{x\} \textasciitilde{} \textasciicircum{}"),
        ("a\\b", r"a\textbackslash{}b"),
        ("90.2 ± 0.1", r"90.2 \ensuremath{\pm} 0.1"),
        ("-0.5 to +1.2, mid-2", "$-$0.5 to +1.2, mid-2"),
        ("[1] of 2", "{[}1{]} of 2"),  # after a line's end it would be taken for a length
    ],
)
def test_what_latex_would_read_otherwise_is_escaped(text: str, source: str) -> None:
    assert escape(text) == source


def test_every_line_of_the_table_has_a_cell_for_each_column(
    content: dict[str, Any],
    write_table: Callable[..., Path],
    record_run: Callable[..., RunRecord],
) -> None:
    content["rows"][0]["label"] = "Plain & simple_1"
    content["reproduce"]["expected"] = {"below": 0, "above": 0}
    write_table(content)
    for seed, accuracy in ((7, 0.89), (8, 0.90)):
        record_run("baseline", seed, accuracy)
        record_run("operator", seed, accuracy)
    text = as_latex(compare(load_table("small"), Path("runs")))
    (spec, body) = re.findall(r"\\begin\{tabular\}\{(l r*|lr+)\}(.*?)\\bottomrule", text, re.S)[0]
    # Headers of two lines are tables of their own.
    body = re.sub(r"\\begin\{tabular\}\[b\].*?\\end\{tabular\}", "", body)
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(spec) - 1}
    assert r"Plain \& simple\_1 & 90.250 \ensuremath{\pm} 0.354 & \textbf{89.500" in text
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert not re.search(r"(?<!\\)%(?! needs)", text)
