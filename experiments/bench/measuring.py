"""Subjects in, lines of a ledger out: networks are built and timed against each other."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.bench.conditions import Conditions
from experiments.bench.contenders import Contender, workload
from experiments.bench.ledger import Line, commit, machine_name, versions
from experiments.bench.memory import peak_bytes
from experiments.bench.subjects import Subject
from experiments.bench.timing import Timing, cuda_clock, interleaved, ratios, wall_clock

FUSED = {"fused": "yes", "unfused": "no", None: ""}


def measure(
    field: Sequence[Contender],
    batch: int,
    conditions: Conditions,
    facts: Mapping[str, Any],
    rounds: Iterable[int],
    baseline: Subject | None = None,
    least_seconds: float = 0.2,
) -> list[Line]:
    """Time networks against each other on batches of one size.

    Args:
        field: The networks.
        batch: Images in a batch.
        conditions: How they are timed.
        facts: The machine's, of `environment_facts`.
        rounds: One item for each round.
        baseline: Which of the subjects the others are compared with, in its fused form if it has
            one; None for no comparison.
        least_seconds: Time that a sample takes at least.
    """
    runs = {place: workload(each, batch, conditions) for place, each in enumerate(field)}
    clock = cuda_clock if conditions.device == "cuda" else wall_clock
    timings = interleaved(runs, rounds, clock, least_seconds)
    # Of two forms, the fused one comes last.
    places = [place for place, each in enumerate(field) if each.subject == baseline]
    against = timings[places[-1]] if places else None
    common = {
        "batch": batch,
        "what": conditions.what,
        "baseline": baseline.name if baseline else "",
        "threads": conditions.threads,
        "device": conditions.device,
        "machine": machine_name(conditions, facts),
        "precision": conditions.precision,
        "layout": conditions.layout,
        "compiled": _yes(conditions.compiled),
        "cudnn_benchmark": _yes(conditions.cudnn_benchmark) if conditions.device == "cuda" else "",
        "versions": versions(facts),
        "commit": commit(facts),
    }
    lines = []
    for place, each in enumerate(field):
        peak = peak_bytes(runs[place], conditions.device)
        lines.append(_line(each, batch, timings[place], against, peak, common))
    return lines


def _line(
    contender: Contender,
    batch: int,
    timing: Timing,
    against: Timing | None,
    peak: int,
    common: Mapping[str, Any],
) -> Line:
    _, height, width = contender.input_size
    return Line(
        subject=contender.subject.name,
        row=contender.subject.row,
        size=f"{height}x{width}",
        fused=FUSED[contender.form],
        median_ms=_digits(timing.median * 1000),
        iqr_ms=_digits(timing.iqr * 1000),
        images_per_second=_digits(batch / timing.median),
        peak_mib=round(peak / 2**20, 2),
        ratio=_digits(statistics.median(ratios(against, timing))) if against else None,
        rounds=len(timing.seconds),
        **common,
    )


def _digits(value: float) -> float:
    """Four digits that count."""
    return float(f"{value:.4g}")


def _yes(value: bool) -> str:
    return "yes" if value else "no"
