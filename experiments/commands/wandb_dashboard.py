"""`dashboard wandb`: a W&B report that compares the rows of a table."""

import argparse
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.command_parser import CommandParser
from experiments.tables.table_files import load_table
from experiments.wandb_report import build_report, report_specification
from experiments.wandb_scheme import PROJECT
from experiments.whole_file import whole_file

INSTALL = "pip install -e '.[dashboards]' -c constraints.txt"


def main(arguments: Sequence[str]) -> int:
    """Make a table's report in W&B, or write its specification; returns the exit status.

    Args:
        arguments: `dashboard`, `wandb` and the options; `dashboard` may be left out.

    Raises:
        ConfigError: There is no such table, or nothing of it can be trained.
        SystemExit: The command line is wrong, wandb-workspaces is missing, nobody is logged in, or
            W&B refuses or cannot be reached.
    """
    given = _parser().parse_args(arguments[arguments.index("wandb") + 1 :])
    table = load_table(given.table)
    if given.dry_run:
        specification = report_specification(table, given.entity, given.project)
        file: Path = given.out or Path(f"{table.id}.report.yaml")
        with whole_file(file) as aside:
            # By way of JSON, so that what occurs twice is written twice.
            plain = json.loads(json.dumps(specification))
            aside.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
        print(f"wrote {file}; nothing was sent")
        return 0
    _require_package()
    api = _log_in()
    entity = given.entity or _default_entity(api)
    print(_save(report_specification(table, entity, given.project)))
    return 0


def _require_package() -> None:
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise SystemExit(f"wandb-workspaces is not installed; {INSTALL}")


def _log_in() -> Any:
    """Log in with what is stored; returns W&B's public API."""
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    try:
        if os.environ.get("WANDB_MODE", "online") == "online" and wandb.login(prompt=False):
            return wandb.Api()
    except wandb.Error as error:
        raise SystemExit(f"W&B cannot be reached ({_first_line(error)})") from error
    raise SystemExit(
        "not logged in to W&B; run `wandb login` (with WANDB_MODE unset or online), or write the "
        "specification with --dry-run"
    )


def _default_entity(api: Any) -> str:
    entity: str | None = api.default_entity
    if not entity:
        raise SystemExit("your W&B account has no default entity; name one with --entity")
    return entity


def _save(specification: Mapping[str, Any]) -> str:
    """Save the report; returns its address."""
    try:
        return str(build_report(specification).save().url)
    except Exception as error:  # whatever it raises for what the server answers
        where = f"{specification['entity']}/{specification['project']}"
        raise SystemExit(
            f"W&B did not take the report into {where} ({_first_line(error)}); check the network, "
            "--entity, --project and that you may write there"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m experiments dashboard wandb",
        description="A W&B report that compares a table's rows over all their runs and seeds.",
        allow_abbrev=False,
    )
    parser.add_argument("table", metavar="TABLE", help="id of a table (table list shows all)")
    parser.add_argument("--entity", default="", help="whose project it is (default: your entity)")
    parser.add_argument(
        "--project",
        default=os.environ.get("WANDB_PROJECT", PROJECT),
        help="project that the runs are in (default %(default)s)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="write the specification; no network, no account"
    )
    parser.add_argument("--out", type=Path, help="file of --dry-run (default TABLE.report.yaml)")
    return parser
