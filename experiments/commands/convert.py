"""`convert`: weights from their authors' names to ours, and back."""

import argparse
import difflib
from collections.abc import Sequence
from pathlib import Path

from experiments.command_parser import CommandParser
from experiments.compose import ConfigError
from experiments.whole_file import whole_file

SAFETENSORS = ".safetensors"


def main(arguments: Sequence[str]) -> int:
    """Convert one checkpoint; returns the exit status."""
    options = _parser().parse_args(arguments[1:])
    config = find_row(Path(options.configs), options.family, options.row)
    # Only now: what is wrong on the command line is said at once.
    import torch
    from safetensors.torch import load_file, save_file

    from experiments.cli import build
    from lit_models import ImageClassifier, load_official
    from lit_models.official import official_state, read_official

    source, target = Path(options.source), Path(options.target)
    module, _ = build([config], device="cpu")
    assert isinstance(module, ImageClassifier)
    network = module.network
    if options.to == "ours":
        load_official(network, read_official(source), averaged=options.averaged)
        state = network.state_dict()
    else:
        read = load_file(source) if source.suffix == SAFETENSORS else read_official(source)
        module.load_weights(read)
        state = official_state(network)
    state = {key: value.contiguous() for key, value in state.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as aside:
        if target.suffix == SAFETENSORS:
            save_file(state, aside)
        else:
            torch.save(state, aside)
    count = sum(value.numel() for value in state.values())
    print(f"{source} -> {target}: {len(state)} tensors, {count:,} numbers, names {options.to}")
    return 0


def find_row(configs: Path, family: str, row: str) -> Path:
    """Return the config file of a family's row.

    Raises:
        ConfigError: There is none, or more than one, of that name.
    """
    if not (configs / family).is_dir():
        families = sorted(path.name for path in configs.iterdir() if path.is_dir())
        raise ConfigError(f"no family is called {family!r} below {configs}: {', '.join(families)}")
    found = sorted((configs / family).rglob(f"{row}.yaml"))
    if not found:
        rows = [path.stem for path in (configs / family).rglob("*.yaml")]
        near = difflib.get_close_matches(row, rows, n=3)
        hint = f"; nearest: {', '.join(dict.fromkeys(near))}" if near else ""
        raise ConfigError(f"{family} has no row {row!r}{hint}")
    if len(found) > 1:
        paths = ", ".join(str(path) for path in found)
        raise ConfigError(f"{family} has more than one row {row!r}: {paths}; give experiment/row")
    return found[0]


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m experiments convert", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--family", required=True, help="folder below configs/")
    parser.add_argument("--row", required=True, help="name of the row's config file, .yaml aside")
    parser.add_argument(
        "--to", choices=("ours", "official"), default="ours", help="whose names the target has"
    )
    parser.add_argument(
        "--averaged",
        action="store_true",
        help="take a checkpoint's averaged weights",
    )
    parser.add_argument("--configs", default="configs", help=argparse.SUPPRESS)
    parser.add_argument("source", metavar="IN", help="a checkpoint: .pth, .ckpt or .safetensors")
    parser.add_argument(
        "target", metavar="OUT", help="written as its ending says: .safetensors or .pth"
    )
    return parser
