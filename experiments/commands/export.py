"""`export`: a trained network as a file that other programs run.

The network is written as it is deployed, in float32: operators folded where they can be, weights
averaged where the run validated averaged ones, for batches of any size. It takes images that are
resized, cropped and normalised as the metadata say. The file is read back and compared with the
checkpoint on real test images; one that does not agree is not kept.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command_parser import CommandParser
from experiments.compose import ConfigError
from experiments.record import FILE_NAME, RunRecord
from experiments.whole_file import whole_file

if TYPE_CHECKING:
    from experiments.export.comparison import Comparison, Latency

KINDS = ("safetensors", "torch.export", "onnx")


def main(arguments: Sequence[str]) -> int:
    """Export one checkpoint; returns the exit status."""
    options = _parser().parse_args(arguments[1:])
    folder, checkpoint = find_checkpoint(options.run, Path(options.runs), options.checkpoint)
    # Only now: what is wrong on the command line is said at once.
    from experiments.export.comparison import compare, latencies
    from experiments.export.formats import FORMATS
    from experiments.export.trained import Normalising, TrainedClassifier

    kind = FORMATS[options.to](options.opset)
    file = _target(options.out, folder, checkpoint, kind.suffix)
    trained = TrainedClassifier(folder, checkpoint)
    images = trained.images(max(options.images, *options.batch_check), options.size)
    if max(options.batch_check) > len(images):
        raise ConfigError(f"--batch-check: the data has only {len(images)} test images")
    network, pixels = trained.deployed, images
    if options.with_normalisation:
        if kind.name == "safetensors":
            raise ConfigError("--with-normalisation: safetensors holds weights alone")
        if trained.mean is None or trained.std is None:
            raise ConfigError(
                "--with-normalisation: the data module of this run normalises nothing"
            )
        network = Normalising(trained.deployed, trained.mean, trained.std).eval()
        pixels = network.pixels(images)
    facts = trained.facts(images, options.with_normalisation)
    source = trained.source()
    channels, height, width = images.shape[1:]
    with whole_file(file) as aside:
        kind.write(network, (channels, height, width), aside, facts)
        exported = kind.read(aside, source)
        found = compare(trained.network, exported, images, pixels, options.batch_check)
        _refuse_disagreement(found, options.tolerance)
        times = latencies(trained.network, exported, images, pixels, options.batch_check)
    facts |= {
        "format": kind.name,
        "load": kind.loading_code(file, source),
        "verified": {**found._asdict(), "difference": found.difference._asdict()},
        "milliseconds": [each._asdict() for each in times],
    }
    with whole_file(file.with_name(f"{file.name}.json")) as aside:
        aside.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    _print(file, facts, found, times, kind.runtime)
    return 0


def find_checkpoint(run: str, runs: Path, choice: str | None) -> tuple[Path, Path]:
    """Return a run's folder and the checkpoint of it that was chosen.

    Args:
        run: A run folder, the id of a run below `runs`, or a checkpoint in a run folder.
        runs: Folder of all runs.
        choice: `last`, `best` or the path of a checkpoint; None is `last`.

    Raises:
        ConfigError: There is no such run or checkpoint; the message says what there is.
    """
    if Path(run).is_file():
        if choice is not None:
            raise ConfigError(f"{run} is a checkpoint already; leave --checkpoint out")
        folder, checkpoint = Path(run).resolve().parent.parent, Path(run)
    else:
        folder = _run_folder(run, runs)
        checkpoint = _checkpoint(folder, choice or "last")
    if not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"{checkpoint} lies in no run folder: {folder / 'config.yaml'} is missing, which says "
            "what network it is of"
        )
    return folder, checkpoint


def _run_folder(run: str, runs: Path) -> Path:
    import difflib

    if (Path(run) / FILE_NAME).is_file():
        return Path(run)
    folders = {file.parent.name: file.parent for file in runs.rglob(FILE_NAME)}
    if run in folders:
        return folders[run]
    inside = [folder for folder in folders.values() if folder.is_relative_to(Path(run))]
    near = [folders[name] for name in difflib.get_close_matches(run, folders, n=3)]
    hint = f"; nearest: {', '.join(map(str, inside[:3] or near))}" if inside or near else ""
    raise ConfigError(
        f"no run {run}: neither a run folder, nor a checkpoint, nor the id of a run below {runs} "
        f"(--runs){hint}"
    )


def _checkpoint(folder: Path, choice: str) -> Path:
    if choice not in ("last", "best"):
        if not Path(choice).is_file():
            raise ConfigError(f"no checkpoint {choice}; --checkpoint is last, best or a file")
        return Path(choice)
    record = RunRecord.read(folder)
    found = record.checkpoint(choice) if record else None
    if found is None:
        state = f"this run is {record.state} and" if record else "it"
        others = sorted(path.name for path in (folder / "checkpoints").glob("*.ckpt"))
        raise ConfigError(
            f"no checkpoint {choice!r} in {folder}: {state} has "
            f"{', '.join(others) if others else 'no checkpoint at all; train it again'}"
        )
    return found


def _target(out: str | None, folder: Path, checkpoint: Path, suffix: str) -> Path:
    """Return the file to write, in a folder that exists and can be written to."""
    record = RunRecord.read(folder)
    row = str(record.facts.get("row", folder.name)) if record else folder.name
    target = Path(out) if out else folder / "exports"
    if target.suffix != suffix:
        target = target / f"{Path(row).name}_{checkpoint.stem}{suffix}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out: cannot make {target.parent} ({error.strerror})") from error
    if not os.access(target.parent, os.W_OK):
        raise ConfigError(f"--out: {target.parent} cannot be written to; choose another folder")
    return target


def _refuse_disagreement(found: "Comparison", tolerance: float) -> None:
    # Not `>`: a difference that is not a number is none that agrees.
    if not found.difference.relative <= tolerance:
        raise ValueError(
            "the exported network does not compute what the checkpoint does: logits differ by "
            f"{found.difference.absolute:.2g}, {found.difference.relative:.2g} of the largest "
            f"(--tolerance {tolerance:g}), and the top class of {found.images - found.agreeing} of "
            f"{found.images} images; no file was kept"
        )


def _print(
    file: Path,
    facts: dict[str, Any],
    found: "Comparison",
    times: "Sequence[Latency]",
    runtime: str,
) -> None:
    for label, text in _lines(file, facts, found, times, runtime):
        print(f"{label:<11} {text}")


def _lines(
    file: Path,
    facts: dict[str, Any],
    found: "Comparison",
    times: "Sequence[Latency]",
    runtime: str,
) -> Iterator[tuple[str, str]]:
    import torch

    shape = "x".join(str(side) for side in facts["input"]["shape"][1:])
    yield (
        "checkpoint",
        f"{facts['run_id']}, {facts['checkpoint']} of step {facts['step']}, "
        f"{facts['weights']} weights",
    )
    if facts["temperature"]:
        yield "temperature", f"{facts['temperature']:.3g}; the annealing had not ended by then"
    yield (
        "network",
        f"{facts['backbone']}, {facts['parameters']:,} parameters, images {shape}, any batch size",
    )
    yield (
        "difference",
        f"{found.difference.absolute:.2g} absolute, {found.difference.relative:.2g} relative at "
        f"most, over {found.images} test images in batches of "
        f"{' and '.join(map(str, found.batches))}",
    )
    yield "top-1", f"{found.agreeing} of {found.images} images have the same class"
    threads = torch.get_num_threads()
    for each in times:
        yield (
            "latency",
            f"batch {each.batch}: checkpoint {each.checkpoint:.3g} ms in torch, exported "
            f"{each.exported:.3g} ms in {runtime} ({threads} CPU thread{'s' * (threads > 1)})",
        )
    yield "file", f"{file}, {file.stat().st_size / 1e6:.3g} MB"
    yield "metadata", f"{file}.json"
    yield "load it", facts["load"]


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m experiments export", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("run", metavar="RUN", help="a run folder, a run id or a checkpoint")
    parser.add_argument("--to", required=True, choices=KINDS, help="the format")
    parser.add_argument("--checkpoint", help="last, best or the path of a checkpoint; default last")
    parser.add_argument(
        "--out", help="folder, or file with the format's ending; default exports/ in the run folder"
    )
    parser.add_argument(
        "--size", type=_size, help="side of the images, or HEIGHTxWIDTH; default the data's"
    )
    parser.add_argument(
        "--with-normalisation",
        action="store_true",
        help="let the exported network normalise: it then takes pixels from 0 to 1",
    )
    parser.add_argument("--opset", type=int, help="version of ONNX's operators, 18 or later")
    parser.add_argument(
        "--images", type=_positive, default=32, help="test images to compare on; default 32"
    )
    parser.add_argument(
        "--batch-check",
        type=_positive,
        nargs="+",
        default=[1, 7],
        help="batch sizes to compare and time; default 1 7",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="largest difference, relative to the largest logit, that agrees; default 1e-4",
    )
    parser.add_argument("--runs", default="runs", help="folder of all run folders; default runs")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return _positive(height), _positive(width or height)
