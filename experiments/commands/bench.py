"""`bench`: how fast networks are, and how much memory they need."""

import argparse
from collections.abc import Sequence

from experiments.bench.conditions import DEVICES, PRECISIONS, WHATS, Conditions
from experiments.bench.options import add_common_options, whole_number
from experiments.command_parser import CommandParser

EPILOG = """\
Subjects are timed in turns, in rounds of random order. Results are printed, and kept as one line a
subject in a ledger below --out, from where `table show` and `table report` take their columns.

  bench parameter_free_resnet50_imagenet --batch 1 16         a table
  bench imagenet/r50_max resnet50 --baseline resnet50         a row, timm's ResNet-50
  bench speed                                                 what the suite's own forms gain
"""


def main(arguments: Sequence[str]) -> int:
    """Time networks; returns the exit status.

    Raises:
        ConfigError: A subject or a config is wrong, or the machine lacks what is asked for.
        SystemExit: The command line is wrong.
    """
    words = list(arguments[1:])
    if words[:1] == ["speed"]:
        from experiments.bench.speed import command

        return command.main(words[1:])
    given = _parser().parse_args(words)
    if given.fused and given.what != "forward":
        raise SystemExit(f"--fused is for --what forward: what is fused has no {given.what}")
    conditions = Conditions(
        what=given.what,
        device=given.device,
        precision=given.precision,
        channels_last=given.channels_last,
        compiled=given.compile,
        threads=given.threads,
        cudnn_benchmark=given.cudnn_benchmark,
    )
    # Only now: what is wrong on the command line is said at once.
    conditions.check()
    conditions.apply()
    return _bench(given, conditions)


def _bench(given: argparse.Namespace, conditions: Conditions) -> int:
    from experiments.bench.contenders import Form, contenders
    from experiments.bench.ledger import ledger_name, update_ledger
    from experiments.bench.measuring import measure
    from experiments.bench.subjects import find_subject, find_subjects
    from experiments.bench.terminal import print_lines, shown
    from experiments.environment import environment_facts

    subjects = find_subjects(given.subjects, given.rows)
    baseline = find_subject(given.baseline) if given.baseline else None
    if baseline and baseline not in subjects:
        subjects.append(baseline)
    chosen: dict[Form, bool] = {"unfused": given.unfused, "fused": given.fused}
    forms = [form for form, wanted in chosen.items() if wanted] or list(chosen)
    field = [
        contender
        for subject in subjects
        for contender in contenders(subject, conditions, forms, given.size)
    ]
    facts = environment_facts()
    file = given.out / ledger_name(conditions, facts)
    lines = []
    for batch in given.batch:
        lines += measure(
            field,
            batch,
            conditions,
            facts,
            shown(range(given.rounds), f"batch {batch}"),
            baseline,
            given.sample_seconds,
        )
        update_ledger(file, lines)
    print_lines(lines, file)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m experiments bench",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "subjects",
        nargs="+",
        metavar="SUBJECT",
        help="a config file or row, a table's id, or a name that timm knows",
    )
    parser.add_argument("--rows", nargs="+", metavar="KEY", help="only these rows of the table")
    parser.add_argument(
        "--what",
        choices=WHATS,
        default=WHATS[0],
        help="forward in evaluation mode, forward + backward, or a whole training step",
    )
    parser.add_argument(
        "--batch",
        nargs="+",
        type=whole_number(1),
        default=[1],
        metavar="N",
        help="images (default 1)",
    )
    parser.add_argument(
        "--size", type=whole_number(1), metavar="SIDE", help="height and width (default: the row's)"
    )
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[0])
    parser.add_argument(
        "--precision", choices=PRECISIONS, default=PRECISIONS[0], help="16 bits: torch's autocast"
    )
    parser.add_argument("--channels-last", action="store_true", help="kernels and images")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--cudnn-benchmark", action="store_true", help="cuDNN tries algorithms")
    parser.add_argument(
        "--fused", action="store_true", help="operators folded, as deployed (default: both forms)"
    )
    parser.add_argument("--unfused", action="store_true", help="the network that is trained")
    parser.add_argument(
        "--sample-seconds",
        type=float,
        default=0.2,
        metavar="S",
        help="quick calls are repeated to fill this time in each round (default 0.2)",
    )
    parser.add_argument("--baseline", metavar="SUBJECT", help="compare the others with it")
    add_common_options(parser)
    return parser
