"""What a run prints when it is done."""

from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.record import RunRecord


def print_summary(record: RunRecord) -> None:
    """Print where the run lies and what came out of it."""
    facts = record.facts
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _lines(facts):
        table.add_row(name, value)
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"run folder  {record.folder}", highlight=False)


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    metrics = facts.get("metrics", {})
    test = metrics.get("test", {})
    parameters = facts.get("parameters", {})
    fusion = facts.get("fusion", {})
    lines: list[tuple[str, str]] = []
    if "val/acc1" in metrics.get("last", {}):
        lines.append(("validation accuracy", f"{metrics['last']['val/acc1']:.2%}"))
    if "test/acc1" in test:
        accuracy = f"{test['test/acc1']:.2%}"
        if "test/acc1_fused" in test:
            accuracy += f" before fusing, {test['test/acc1_fused']:.2%} after"
        lines.append(("test accuracy", accuracy))
    for name in ("box", "mask"):
        if f"test/{name}_ap" in test:
            lines.append((f"{name} AP in test", f"{100 * test[f'test/{name}_ap']:.1f}"))
    if parameters:
        count = f"{parameters['training']:,}"
        if fusion:
            count += f" before fusing, {parameters['fused']:,} after"
        lines.append(("parameters", count))
    if fusion:
        difference = fusion.get("test_difference") or fusion["verified_difference"]
        lines.append(
            (
                "largest difference",
                f"{difference['absolute']:.2g} absolute, {difference['relative']:.2g} relative, "
                "between the outputs of both networks",
            )
        )
    return lines
