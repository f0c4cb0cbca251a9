"""Names the commands. Imports nothing heavy before one is chosen: `--help` answers at once."""

import importlib
import sys
from typing import NamedTuple

from experiments.errors import report


class Command(NamedTuple):
    """A command of the suite: the module whose `main(arguments)` runs it, and what it does."""

    module: str
    summary: str


COMMANDS = {
    "fit": Command("experiments.cli", "train a row, then test it"),
    "validate": Command("experiments.cli", "evaluate a checkpoint on the validation images"),
    "test": Command("experiments.cli", "evaluate a checkpoint on the reported images"),
    "predict": Command("experiments.cli", "write a checkpoint's predictions"),
    "convert": Command(
        "experiments.commands.convert", "weights from their authors' names to ours, and back"
    ),
    "bench": Command("experiments.commands.bench", "time networks, and count their memory"),
    "dashboard": Command("experiments.commands.dashboard", "all runs at one glance: HTML or W&B"),
    "data": Command("experiments.commands.data", "check data sets, and put them into place"),
    "explain": Command(
        "experiments.commands.explain", "where networks look, and what their operators learned"
    ),
    "export": Command(
        "experiments.commands.export", "a trained network as safetensors, torch.export or ONNX"
    ),
    "slurm": Command("experiments.commands.slurm", "print the batch script of a row"),
    "table": Command("experiments.tables.command", "published results beside reproduced ones"),
}

HELP = """\
usage: python -m experiments COMMAND [options]

{commands}

  python -m experiments COMMAND --help     what a command takes
  python -m experiments fit --config configs/smoke.yaml
  --traceback                              with any command: show where an error came from
"""


def main(args: list[str] | None = None) -> int:
    """Run one command and return its exit status (0 done, 1 failed, 2 wrong usage)."""
    arguments = list(sys.argv[1:] if args is None else args)
    traceback = "--traceback" in arguments
    arguments = [argument for argument in arguments if argument != "--traceback"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        lines = (f"  {name:<10} {command.summary}" for name, command in COMMANDS.items())
        print(HELP.format(commands="\n".join(lines)), end="")
        return 0
    try:
        if arguments[0] not in COMMANDS:
            raise SystemExit(_unknown(arguments[0]))
        command = importlib.import_module(COMMANDS[arguments[0]].module)
        return int(command.main(arguments) or 0)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if traceback:
            raise
        return report(error)


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(COMMANDS)}"
    return f"no command is called {name!r}; {hint}"


if __name__ == "__main__":
    sys.exit(main())
