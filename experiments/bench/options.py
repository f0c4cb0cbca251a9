"""Options of both commands, `bench` and `bench speed`."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from experiments.bench.ledger import LEDGERS
from experiments.bench.timing import LEAST_ROUNDS


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add --threads, --rounds and --out."""
    parser.add_argument(
        "--threads",
        type=whole_number(1),
        default=os.cpu_count() or 1,
        metavar="N",
        help="CPU threads of torch (default: all)",
    )
    parser.add_argument(
        "--rounds",
        type=whole_number(LEAST_ROUNDS),
        default=LEAST_ROUNDS,
        metavar="N",
        help=f"interleaved rounds (default {LEAST_ROUNDS}, which is the least)",
    )
    parser.add_argument(
        "--out", type=Path, default=LEDGERS, metavar="FOLDER", help=f"(default {LEDGERS})"
    )


def whole_number(least: int) -> Callable[[str], int]:
    """Return the type of an option that is a whole number from `least` on."""

    def whole(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return whole
