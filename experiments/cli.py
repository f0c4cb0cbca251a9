"""fit / validate / test / predict: LightningCLI with composed configs and a folder for each run."""

import argparse
import logging
import os
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden

from callbacks.checkpoints import BestCheckpoint, ExceptionCheckpoint, LastCheckpoint
from callbacks.model_summary import DeployedModelSummary
from callbacks.progress_bar import RunProgressBar
from callbacks.run_record import RunRecordCallback
from callbacks.step_seed import StepSeed
from experiments.arguments import Arguments, read_arguments
from experiments.checkpoint_io import SafeCheckpointIO
from experiments.compose import ConfigError
from experiments.config_errors import explain
from experiments.environment import environment_facts
from experiments.errors import one_line
from experiments.loggers import WandbMode, build_loggers
from experiments.record import RunRecord, row_of
from experiments.run_folder import FOLDER_VARIABLE, RunFolder, choose_run_folder
from experiments.summary import print_summary

LINKS = {"num_classes": "number of classes", "in_chans": "number of input channels"}


def main(args: Sequence[str]) -> int:
    """Run `fit`, `validate`, `test` or `predict`; returns the exit status."""
    _quieten()
    arguments = read_arguments(args)
    cli: SuiteCLI | None = None
    try:
        cli = SuiteCLI(arguments)
        cli.run()
    except BaseException as error:
        if cli is not None and cli.record_is_ours:
            cli.close_record(error)
            if cli.record.facts["status"] == "interrupted":
                _say_how_to_resume(cli)
                return 130
        raise
    cli.close_record(None)
    if _is_first_process():
        print_summary(cli.record)
    return 0


def build(
    paths: Sequence[str | Path], device: str = "meta"
) -> tuple[L.LightningModule, L.LightningDataModule]:
    """Return the module and the data module that config files describe.

    Args:
        paths: Config files, a later one above an earlier one.
        device: Where parameters are made; on `meta` nothing is allocated.

    Raises:
        ConfigError: A config file is wrong.
    """
    _quieten()
    configs = [part for path in paths for part in ("--config", str(path))]
    cli = SuiteCLI(read_arguments(["fit", *configs]))
    with torch.device(device):
        cli.build_model_and_data()
    return cli.model, cli.datamodule


class SuiteCLI(LightningCLI):
    """LightningCLI that composes configs, links data to model and gives each run its folder.

    Constructing it parses; `run` does the rest.

    Args:
        arguments: The command line, its config files already merged.
    """

    record: RunRecord
    folder: RunFolder

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments
        self.record_is_ours = False
        kwargs: dict[str, Any] = {"allow_abbrev": False, "exit_on_error": False}
        super().__init__(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={
                "prog": "python -m experiments",
                **kwargs,
                **{name: dict(kwargs) for name in self.subcommands()},
            },
            args=arguments.parsed,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's subcommands; `weights_only` is no option, it is always so."""
        methods = LightningCLI.subcommands()
        return {name: skip | {"weights_only", "verbose"} for name, skip in methods.items()}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the suite's own options and link what the data knows to the model."""
        parser.add_argument("--runs", type=str, default="runs", help="Folder of all run folders.")
        parser.add_argument(
            "--wandb",
            type=WandbMode,
            default="auto",
            help="Weights & Biases: `auto` is online where you are logged in, else offline.",
        )
        parser.add_argument(
            "--test_after_fit", type=bool, default=True, help="Test the last weights after fit."
        )
        parser.add_argument(
            "--threads", type=int | None, default=None, help="CPU threads of torch; null: all."
        )
        for name in LINKS:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; what is wrong is said in one line, with the file it came from."""
        try:
            self.config = parser.parse_args(args)
        except argparse.ArgumentError as error:
            command = self.arguments.command
            known = [action.dest for action in self._subcommand_parsers[command]._actions]
            raise explain(str(error), self.arguments.place, known) from error

    def _parse_ckpt_path(self) -> None:
        # The run's config is the one source of hyper-parameters.
        pass

    def _set_seed(self) -> None:
        # Constructing only parses; `run` seeds.
        pass

    def instantiate_classes(self) -> None:
        """Nothing yet: constructing only parses."""

    def _run_subcommand(self, subcommand: str) -> None:
        # Constructing only parses; `run` runs.
        pass

    # --- running ------------------------------------------------------------------------------

    def run(self) -> None:
        """Open the run's folder and record, build everything and run the command."""
        super()._set_seed()
        threads = self.config[self.arguments.command].threads
        if threads is not None:
            torch.set_num_threads(threads)
        self._open_run()
        self._save_config()
        self.build_model_and_data()
        self.trainer = self.instantiate_trainer()
        super()._run_subcommand(self.arguments.command)

    def build_model_and_data(self) -> None:
        """Instantiate data and model."""
        by_hand = self._linked_by_hand()
        self.config_init = self.parser.instantiate_classes(self.config)
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")
        for name, value in by_hand.items():
            known = getattr(self.datamodule, name, value)
            if known != value:
                key = f"model.init_args.{name}"
                raise ConfigError(
                    f"{self.arguments.place(key)}: {key} is {value}, but the {LINKS[name]} of "
                    f"{type(self.datamodule).__name__} is {known}; leave it out"
                )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the Trainer with the run's folder, loggers and the callbacks every run has."""
        config = self._get(self.config_init, "trainer")
        model = self._get(self.config, "model")
        folder = self.folder.path
        loggers: Any = False
        if config.logger is not False:
            given = config.logger if isinstance(config.logger, list) else [config.logger]
            loggers = build_loggers(
                folder,
                self.record.facts["row"],
                self.record.seed,
                model.init_args.get("backbone", type(self.model).__name__),
                self._get(self.config, "wandb"),
                first_step=self._first_step(),
            ) + [logger for logger in given if logger not in (None, True)]
        plugins = config.plugins or []
        return super().instantiate_trainer(
            default_root_dir=str(folder),
            logger=loggers,
            callbacks=self._callbacks(config, bool(loggers)),
            plugins=[*(plugins if isinstance(plugins, list) else [plugins]), SafeCheckpointIO()],
            enable_model_summary=False,
            # The data modules give each device its share, exactly.
            use_distributed_sampler=False,
        )

    def after_fit(self) -> None:
        """Test the weights that training ended with."""
        config = self.config[self.arguments.command]
        wanted = config.test_after_fit and not config.trainer.fast_dev_run
        if wanted and is_overridden("test_dataloader", self.datamodule, L.LightningDataModule):
            self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)

    def predict(self, **kwargs: Any) -> None:
        """Write the predictions to `predictions.pt` in the run folder."""
        batches = cast(list[dict[str, torch.Tensor]], self.trainer.predict(**kwargs))
        path = self.folder.path / "predictions.pt"
        torch.save({key: torch.cat([b[key] for b in batches]) for key in batches[0]}, path)

    def close_record(self, error: BaseException | None) -> None:
        """Write how the run ended, and let go of its folder."""
        if not self.record_is_ours:
            return
        facts: dict[str, Any] = {"ended": _now(), "status": "finished", "why": None}
        started = datetime.fromisoformat(self.record.facts["started"])
        facts["seconds"] = round((datetime.now(UTC) - started).total_seconds(), 1)
        if error is not None:
            stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            facts["status"] = "interrupted" if stopped else "failed"
            facts["why"] = "stopped by a signal" if stopped else one_line(error)
            if hasattr(error, "indices"):
                facts["samples"] = error.indices
        os.environ.pop(FOLDER_VARIABLE, None)
        try:
            self.record.update(**facts)
        except OSError as full:
            print(f"could not write {self.record.folder / 'run.json'}: {one_line(full)}")
        self.record.close()

    def _open_run(self) -> None:
        config = self.config[self.arguments.command]
        files = self.arguments.config_files
        row = row_of(files[-1]) if files else "unnamed"
        seed = config.seed_everything
        self.folder = choose_run_folder(
            self.arguments.command, Path(config.runs), row, seed, config.ckpt_path
        )
        config.ckpt_path = self.folder.checkpoint
        if not _is_first_process():
            self.record = RunRecord(self.folder.path, {"row": row, "seed": seed})
            return
        self.record = RunRecord.open(
            self.folder.path,
            run_id=self.folder.path.name,
            row=row,
            command=self.arguments.command,
            status="running",
            why=None,
            seed=seed,
            config={
                "files": [str(file) for file in files],
                "declared": self.arguments.composition.declared,
                "overrides": self.arguments.overrides,
            },
            **environment_facts(),
        )
        if "started" not in self.record.facts:
            self.record.update(started=_now())
        self.record_is_ours = True
        os.environ[FOLDER_VARIABLE] = str(self.folder.path.resolve())

    def _save_config(self) -> None:
        if not _is_first_process():
            return
        command = self.arguments.command
        config = self.config[command].clone()
        config.ckpt_path = None
        text = self._parser(command).dump(config, skip_none=False)
        path = self.folder.path / "config.yaml"
        path.write_text(
            f"# {self.record.facts['row']}, fully resolved. The same run again:\n"
            f"# python -m experiments {command} --config {path}\n{text}",
            encoding="utf-8",
        )

    def _linked_by_hand(self) -> dict[str, Any]:
        given = self.arguments.composition.declared.get("model", {})
        init_args = dict(given.get("init_args") or {}) if isinstance(given, dict) else {}
        for override in self.arguments.overrides:
            key, _, value = override.partition("=")
            if key.startswith("model.init_args."):
                init_args[key.removeprefix("model.init_args.")] = yaml.safe_load(value)
        return {name: init_args[name] for name in LINKS if name in init_args}

    def _first_step(self) -> int:
        if self.arguments.command != "fit" or self.folder.checkpoint is None:
            return 0
        return int(SafeCheckpointIO().load_checkpoint(self.folder.checkpoint)["global_step"])

    def _callbacks(self, config: Any, logs: bool) -> list[Callback]:
        checkpoints = self.folder.path / "checkpoints"
        given = config.callbacks or []
        callbacks: list[Callback] = [
            StepSeed(self.record.seed),
            *(given if isinstance(given, list) else [given]),
            RunRecordCallback(self.record),
        ]
        if config.enable_model_summary is not False:
            callbacks.append(DeployedModelSummary())
        if config.enable_progress_bar is not False:
            callbacks.append(RunProgressBar())
        if logs:
            callbacks.append(LearningRateMonitor(logging_interval="step"))
        if self.arguments.command == "fit" and config.enable_checkpointing is not False:
            callbacks += [
                BestCheckpoint(checkpoints),
                LastCheckpoint(checkpoints),
                ExceptionCheckpoint(checkpoints),
            ]
        return callbacks


def _say_how_to_resume(cli: SuiteCLI) -> None:
    record = cli.record
    if record.last_checkpoint is None:
        print("interrupted before the first checkpoint; start again")
        return
    command = " ".join(["python -m experiments", *cli.arguments.given, "--ckpt_path last"])
    print(f"interrupted; {record.last_checkpoint} is good. Go on with:\n  {command}")


def _is_first_process() -> bool:
    # Known before there is a Trainer, from the launcher's environment.
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _quieten() -> None:
    """Leave out what is no news: tips about other products, hints that do not apply here."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: "Tip:" not in record.getMessage())
    for noise in (
        "does not have many workers",
        "Checkpoint directory .* exists and is not empty",
        "have no `val_dataloader`",
        "isinstance.*LeafSpec",
        "The dirpath has changed",
        "Total length of `list` across ranks is zero",
        # Metrics are synchronised before they are logged.
        "It is recommended to use .*sync_dist=True",
    ):
        warnings.filterwarnings("ignore", message=f".*{noise}")
