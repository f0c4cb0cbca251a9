"""Speed ledgers: CSV files named with device, torch, precision and layout, one line a subject.

timm's ledgers of benchmark results are the model. A ledger keeps the newest line of each subject.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from experiments.bench.conditions import Conditions
from experiments.compose import ConfigError
from experiments.whole_file import whole_file

LEDGERS = Path("results/speed")


@dataclass(frozen=True)
class Line:
    """One line of a ledger: a subject under the ledger's conditions.

    Attributes:
        subject: A row's name, or timm's name of the network.
        row: The row's name; empty for a timm network.
        batch: Images in a batch.
        size: Height and width of an image, for example 224x224.
        what: forward, training or step, as in `Conditions`.
        fused: `yes`: the deployed network, operators folded; `no`: the one that is trained; empty:
            there is nothing to fold.
        median_ms: Milliseconds of a call, median over the rounds.
        iqr_ms: Distance of its quartiles.
        images_per_second: The batch divided by the median.
        peak_mib: Most memory held at once during a call, beyond what stays (weights, gradients,
            moments), as torch's allocator (GPU) or profiler (CPU) counts it.
        ratio: How many times as fast as the baseline: median of the rounds' ratios; empty without.
        baseline: The baseline's subject; empty without.
        rounds: Number of rounds.
        threads: CPU threads of torch.
        device: cpu or cuda.
        machine: Name of the CPU or GPU.
        precision: fp32, bf16 or fp16.
        layout: nchw or nhwc (channels last).
        compiled: yes or no: torch.compile.
        cudnn_benchmark: yes or no; empty on a CPU.
        versions: Of Python, torch and timm.
        commit: The suite's commit; `+changes` where files differed from it.
    """

    subject: str
    row: str
    batch: int
    size: str
    what: str
    fused: str
    median_ms: float
    iqr_ms: float
    images_per_second: float
    peak_mib: float
    ratio: float | None
    baseline: str
    rounds: int
    threads: int
    device: str
    machine: str
    precision: str
    layout: str
    compiled: str
    cudnn_benchmark: str
    versions: str
    commit: str

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells the line from the others of its ledger."""
        return self.subject, self.batch, self.size, self.what, self.fused

    @classmethod
    def read(cls, cells: Mapping[str, str]) -> Self:
        """Return the line that a CSV row holds.

        Raises:
            ValueError: A cell is missing or is no number where one belongs.
        """
        kinds = {"batch": int, "rounds": int, "threads": int} | dict.fromkeys(
            ("median_ms", "iqr_ms", "images_per_second", "peak_mib"), float
        )
        values: dict[str, Any] = {}
        for field in fields(cls):
            text = cells.get(field.name)
            if text is None:
                raise ValueError(f"there is no column {field.name}")
            if field.name == "ratio":
                values["ratio"] = float(text) if text else None
            else:
                values[field.name] = kinds.get(field.name, str)(text)
        return cls(**values)


def ledger_name(conditions: Conditions, facts: Mapping[str, Any]) -> str:
    """Return the ledger's file name: what, device, torch, precision, layout.

    Args:
        conditions: What was timed, and how.
        facts: The machine's, of `environment_facts`.
    """
    machine = re.sub(r"[^a-z0-9]+", "_", machine_name(conditions, facts).lower()).strip("_")
    threads = f"_{conditions.threads}t" if conditions.device == "cpu" else ""
    torch_version = ".".join(facts["versions"]["torch"].split(".")[:2])
    parts = [
        conditions.what,
        f"{conditions.device}_{machine}{threads}",
        f"torch{torch_version}",
        conditions.precision,
        conditions.layout,
        *(["compiled"] if conditions.compiled else []),
        *(["cudnn_benchmark"] if conditions.cudnn_benchmark else []),
    ]
    return f"{'-'.join(parts)}.csv"


def machine_name(conditions: Conditions, facts: Mapping[str, Any]) -> str:
    """Name of the CPU or GPU that subjects are timed on."""
    hardware = facts["hardware"]
    return str(hardware["gpus"][0] if conditions.device == "cuda" else hardware["cpu"])


def versions(facts: Mapping[str, Any]) -> str:
    """Versions that a time depends on, in one line."""
    found = facts["versions"]
    return ", ".join(f"{name} {found[name]}" for name in ("python", "torch", "timm"))


def commit(facts: Mapping[str, Any]) -> str:
    """The suite's commit, and whether files differed from it."""
    git = facts["git"]
    return f"{(git['commit'] or 'unknown')[:12]}{'+changes' if git['dirty'] else ''}"


def read_ledger(file: Path) -> list[Line]:
    """Read a ledger.

    Raises:
        ConfigError: It isn't one; the message names file and line.
    """
    lines = []
    with file.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        for cells in reader:
            try:
                lines.append(Line.read(cells))
            except ValueError as error:
                where = f"{file}:{reader.line_num}"
                raise ConfigError(f"{where} is no line of a ledger: {error}") from None
    return lines


def update_ledger(file: Path, lines: Iterable[Line]) -> None:
    """Put lines into a ledger, each in the place of an earlier one of its subject, else last.

    Raises:
        ConfigError: The file is there and isn't a ledger.
    """
    kept = {line.key: line for line in (read_ledger(file) if file.exists() else ())}
    kept |= {line.key: line for line in lines}
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Line)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(vars(line) for line in kept.values())


def circumstances(line: Line) -> str:
    """Hardware and conditions of a line, in words."""
    threads = f" {line.threads} thread{'s' if line.threads > 1 else ''}"
    parts = [f"{line.machine}{threads if line.device == 'cpu' else ''}", line.precision]
    if line.layout == "nhwc":
        parts.append("channels last")
    if line.compiled == "yes":
        parts.append("compiled")
    if line.cudnn_benchmark == "yes":
        parts.append("cuDNN benchmark")
    return ", ".join(parts)


def three_digits(value: float) -> str:
    """At least three digits that count, no exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def per_second(value: float) -> str:
    """A rate in groups of three digits, three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"
