"""Weights & Biases that never stops or slows a run: unreachable, slow, full or crashed."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

SECONDS_TO_CONNECT = 15.0
SECONDS_TO_FINISH = 30.0


class ForgivingWandbLogger(WandbLogger):
    """Lightning's `WandbLogger`, whose failures are said once and are not the run's.

    Where the server cannot be reached the run goes on offline in the same folder; `wandb sync`
    uploads it later. What fails afterwards ends the logging to W&B, and nothing else.

    Args:
        **options: Options of `WandbLogger`.
    """

    def __init__(self, **options: Any) -> None:
        import wandb

        super().__init__(**options, settings=wandb.Settings(init_timeout=SECONDS_TO_CONNECT))
        self._wandb_init.pop("anonymous")  # W&B warns about it, whatever it is
        self._has_failed = False

    @property
    def experiment(self) -> Any:
        """The W&B run, or None where there is none."""
        if getattr(rank_zero_only, "rank", 0) or self._has_failed:
            return None
        if self._experiment is None:
            self._forgive(self._connect)
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log `metrics` of optimisation step `step`."""
        if self.experiment is not None:
            self._forgive(super().log_metrics, metrics, step)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log the run's options."""
        if self.experiment is not None:
            self._forgive(super().log_hyperparams, params)

    def finish(self, failed: bool) -> None:
        """Wait for the upload to end, but not for long: what is missing lies in the run folder.

        Args:
            failed: Whether the run has failed or was interrupted.
        """
        run, self._experiment = self._experiment, None
        if run is None:
            return
        # A daemon: the end of the process does not wait for it.
        thread = threading.Thread(target=self._forgive, args=(run.finish, int(failed)), daemon=True)
        thread.start()
        thread.join(SECONDS_TO_FINISH)
        if thread.is_alive():
            self._say(f"still uploads after {SECONDS_TO_FINISH:g} seconds")

    def _connect(self) -> None:
        try:
            _ = super().experiment
        except Exception as error:
            if self._wandb_init["mode"] == "offline":
                raise
            import wandb

            print(f"W&B cannot be reached ({_in_short(error)}); this run goes on offline")
            # The service that failed would not give the run's id to another one.
            wandb.teardown()
            self._wandb_init["mode"] = "offline"
            _ = super().experiment

    def _forgive(self, act: Callable[..., Any], *arguments: Any) -> None:
        try:
            act(*arguments)
        except Exception as error:
            self._say(f"has failed ({_in_short(error)})")

    def _say(self, what: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            print(f"W&B {what}; metrics.csv and run.json have everything")


def _in_short(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:120]
