"""fit / validate / test / predict: LightningCLI with composed configs and a folder for each run."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
import yaml
from jsonargparse.typing import PositiveInt
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.model_helpers import is_overridden

from callbacks.batch_arithmetic import ScaleLR
from callbacks.stop import StopRequested
from experiments.arguments import Arguments, read_arguments
from experiments.checkpoint_io import SafeCheckpointIO
from experiments.compose import ConfigError
from experiments.config_errors import explain
from experiments.devices import no_such_devices
from experiments.every_run import first_callbacks, last_callbacks
from experiments.idle_costs import NoProfiler, remember_signature, skip_unused_hooks
from experiments.loggers import WandbMode, build_loggers
from experiments.quiet import quieten
from experiments.session import RunSession
from experiments.slurm import REQUEUE_SIGNAL, requeue
from experiments.summary import print_summary
from experiments.sync_batch_norm import SyncBatchNorm
from experiments.wandb_logger import ForgivingWandbLogger
from experiments.wandb_scheme import TrainedRow, summary_of
from experiments.whole_file import whole_file

LINKS = {"num_classes": "number of classes", "in_chans": "number of input channels"}


def main(args: Sequence[str]) -> int:
    """Run `fit`, `validate`, `test` or `predict`; returns the exit status."""
    quieten()
    cli = SuiteCLI(read_arguments(args))
    session = cli.open_session()
    try:
        cli.run()
    except BaseException as error:
        session.close(error)
        if session.record.facts.get("status") == "interrupted":
            wants_requeue = isinstance(error, StopRequested) and error.signal == REQUEUE_SIGNAL
            print(requeue() if wants_requeue else session.how_to_resume())
            return 130
        raise
    else:
        session.close()
    finally:
        cli.finish_logging()
    if session.is_first_process:
        print_summary(session.record)
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
    quieten()
    configs = [part for path in paths for part in ("--config", str(path))]
    cli = SuiteCLI(read_arguments(["fit", *configs]))
    with torch.device(device):
        cli.build_model_and_data()
    return cli.model, cli.datamodule


class SuiteCLI(LightningCLI):
    """LightningCLI that composes configs, links data to model and gives each run its folder.

    Constructing it parses; `open_session` makes the run's folder and `run` runs.

    Args:
        arguments: The command line, its config files already merged.
    """

    session: RunSession

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments
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
            "--histograms",
            type=PositiveInt | None,
            default=None,
            help="Epochs from one set of histograms of gradients and attentions to the next.",
        )
        parser.add_argument(
            "--test_after_fit", type=bool, default=True, help="Test the last weights after fit."
        )
        parser.add_argument(
            "--threads", type=int | None, default=None, help="CPU threads of torch; null: all."
        )
        parser.add_argument(
            "--published_batch",
            type=PositiveInt | None,
            default=None,
            help="Images of a step in the published recipe, on all devices together.",
        )
        parser.add_argument(
            "--keep_published_batch",
            type=bool,
            default=False,
            help="Accumulate gradients over as many batches as make the published batch.",
        )
        parser.add_argument(
            "--scale_lr",
            type=ScaleLR,
            default="none",
            help="`linear`: learning rate times the batch as a part of the published one.",
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
        # Constructing only parses; `open_session` seeds.
        pass

    def instantiate_classes(self) -> None:
        """Nothing yet: constructing only parses."""

    def _run_subcommand(self, subcommand: str) -> None:
        # Constructing only parses; `run` runs.
        pass

    # --- running ------------------------------------------------------------------------------

    def open_session(self) -> RunSession:
        """Seed, and open the run's folder and record."""
        super()._set_seed()
        config = self.config[self.arguments.command]
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.session = RunSession(self.arguments, config)
        return self.session

    def run(self) -> None:
        """Build everything and run the command."""
        command = self.arguments.command
        config = self.config[command].clone()
        config.ckpt_path = None
        self.session.save_config(self._parser(command).dump(config, skip_none=False))
        self.build_model_and_data()
        self.trainer = self.instantiate_trainer()
        super()._run_subcommand(command)

    def finish_logging(self) -> None:
        """Let W&B upload the rest, for a while; the record is written by now."""
        for logger in self.trainer.loggers if hasattr(self, "trainer") else []:
            if isinstance(logger, ForgivingWandbLogger):
                logger.finish(self.trainer.interrupted, summary_of(self.session.record.facts))

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
        given = _as_list(config.callbacks)
        loggers = self._loggers(config.logger)
        plugins = [*_as_list(config.plugins), SafeCheckpointIO()]
        if config.sync_batchnorm:
            plugins.append(SyncBatchNorm())
        try:
            trainer = super().instantiate_trainer(
                default_root_dir=str(self.session.folder),
                logger=loggers or False,
                callbacks=[
                    *first_callbacks(self.session, self.config_init[self.arguments.command]),
                    *given,
                    *last_callbacks(
                        self.session, self.config_init[self.arguments.command], bool(loggers)
                    ),
                ],
                plugins=plugins,
                profiler=config.profiler or NoProfiler(),
                enable_model_summary=False,
                sync_batchnorm=False,
                # The data modules give each device its share, exactly.
                use_distributed_sampler=False,
            )
        except MisconfigurationException as error:
            raise no_such_devices(config, self.arguments.place) or error from error
        skip_unused_hooks([*cast(Any, trainer).callbacks, self.model])
        remember_signature(self.model)
        return trainer

    def after_fit(self) -> None:
        """Test the weights that training ended with."""
        config = self.config[self.arguments.command]
        wanted = config.test_after_fit and not config.trainer.fast_dev_run
        if wanted and is_overridden("test_dataloader", self.datamodule, L.LightningDataModule):
            self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)

    def predict(self, **kwargs: Any) -> None:
        """Write the predictions to the run folder, in the data's order.

        Tensors go to `predictions.pt`, detections in COCO's format to `predictions.json`.
        """
        batches = cast(list[dict[str, Any]], self.trainer.predict(**kwargs))
        if self.trainer.world_size > 1:
            shares: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(shares, batches)
            batches = [batch for share in shares for batch in share]
        if not self.session.is_first_process:
            return
        indices = torch.cat([batch["index"] for batch in batches])
        if "results" in batches[0]:
            images = [results for batch in batches for results in batch["results"]]
            found = dict(zip(indices.tolist(), images, strict=True))
            with whole_file(self.session.folder / "predictions.json") as aside:
                in_order = [result for index in sorted(found) for result in found[index]]
                aside.write_text(json.dumps(in_order), encoding="utf-8")
            return
        order = indices.argsort()
        together = {key: torch.cat([batch[key] for batch in batches])[order] for key in batches[0]}
        with whole_file(self.session.folder / "predictions.pt") as aside:
            torch.save(together, aside)

    def _loggers(self, given: Any) -> list[Logger]:
        if given is False:
            return []
        model = self._get(self.config, "model")
        run = TrainedRow(
            row=self.session.row,
            seed=self.session.seed,
            backbone=model.init_args.get("backbone", type(self.model).__name__),
            declared=self.arguments.composition.declared,
            overrides=self.arguments.overrides,
        )
        wandb = self._get(self.config, "wandb")
        own = build_loggers(self.session.folder, run, wandb, self.session.first_step)
        return own + [logger for logger in _as_list(given) if logger is not True]

    def _linked_by_hand(self) -> dict[str, Any]:
        given = self.arguments.composition.declared.get("model", {})
        init_args = dict(given.get("init_args") or {}) if isinstance(given, dict) else {}
        for override in self.arguments.overrides:
            key, _, value = override.partition("=")
            if key.startswith("model.init_args."):
                init_args[key.removeprefix("model.init_args.")] = yaml.safe_load(value)
        return {name: init_args[name] for name in LINKS if name in init_args}


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
