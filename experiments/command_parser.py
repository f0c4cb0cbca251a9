"""The parser of commands that are not Lightning's."""

import argparse
from typing import NoReturn


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` that answers wrong usage with one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and how to see what is right."""
        raise SystemExit(f"{message} ({self.prog} --help)")
