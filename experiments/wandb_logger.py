"""Weights & Biases that never stops or slows a run: unreachable, slow, full or crashed."""

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
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
        summary: What the run's summary says from the beginning.
        lines: Constants that charts show beside metrics, logged at the first and the last step.
        first_step: First optimisation step of this process.
        **options: Options of `WandbLogger`.
    """

    def __init__(
        self,
        *,
        summary: Mapping[str, float] = MappingProxyType({}),
        lines: Mapping[str, float] = MappingProxyType({}),
        first_step: int = 0,
        **options: Any,
    ) -> None:
        import wandb

        super().__init__(**options, settings=wandb.Settings(init_timeout=SECONDS_TO_CONNECT))
        self._wandb_init.pop("anonymous")  # W&B warns about it, whatever it is
        self._first_summary = summary
        self._lines = lines
        self._step = first_step
        self._has_failed = False

    @property
    def experiment(self) -> Any:
        """The W&B run, or None where there is none."""
        if getattr(rank_zero_only, "rank", 0) or self._has_failed:
            return None
        if self._experiment is None:
            self._forgive(self._connect)
            if self._experiment is not None:
                self._forgive(self._say_on, self._experiment, self._first_summary)
        return None if self._has_failed else self._experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log `metrics` of optimisation step `step`."""
        if self.experiment is not None:
            self._step = self._step if step is None else step
            self._forgive(super().log_metrics, metrics, step)

    def log_media(self, step: int, make: Callable[[Any], Mapping[str, Any]]) -> None:
        """Log pictures, charts or histograms of optimisation step `step`.

        Args:
            step: The step.
            make: Makes them, given the module `wandb`; by name.
        """
        import wandb

        if self.experiment is not None:
            self._forgive(lambda: self.experiment.log({**make(wandb), "trainer/global_step": step}))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log the run's options."""
        if self.experiment is not None:
            self._forgive(super().log_hyperparams, params)

    def finish(self, failed: bool, summary: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Wait for the upload to end, but not for long: what is missing lies in the run folder.

        Args:
            failed: Whether the run has failed or was interrupted.
            summary: What the run's summary says in the end.
        """
        run, self._experiment = self._experiment, None
        if run is None:
            return
        if not self._has_failed:
            self._forgive(self._say_on, run, summary)
        # A daemon: the end of the process does not wait for it.
        thread = threading.Thread(target=self._forgive, args=(run.finish, int(failed)), daemon=True)
        thread.start()
        thread.join(SECONDS_TO_FINISH)
        if thread.is_alive():
            self._say(f"still uploads after {SECONDS_TO_FINISH:g} seconds")

    def _say_on(self, run: Any, summary: Mapping[str, Any]) -> None:
        """Draw the constant lines up to here, and add to the summary."""
        if self._lines:
            run.log({**self._lines, "trainer/global_step": self._step})
        run.summary.update(dict(summary))

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
