import itertools
import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from callbacks import EMACallback, KWAttentionTemperatureCallback
from datamodules import DigitsDataModule
from lit_models import ImageClassifier, KWClassifier
from lit_models.kernel_warehouse import temperature

GOLDEN = Path(__file__).parents[1] / "lit_models/golden/schedules.json"
CASES = json.loads(GOLDEN.read_text())["get_temperature"]


def module() -> KWClassifier:
    torch.manual_seed(0)
    return KWClassifier("mnist_demo_gluoncv", num_classes=10, in_chans=1)


def data() -> DigitsDataModule:
    return DigitsDataModule(batch_size=16, holdout=50, seed=0)


class Watch(L.Callback):
    """Keeps the temperature of every training batch and every evaluation."""

    def __init__(self) -> None:
        self.trained: list[float] = []
        self.validated: list[float] = []
        self.tested: list[float] = []

    def on_train_batch_end(self, _: Any, pl_module: Any, *__: Any) -> None:
        self.trained.append(round(temperature(pl_module.network), 6))

    def on_validation_batch_start(self, _: Any, pl_module: Any, *__: Any) -> None:
        self.validated.append(round(temperature(pl_module.network), 6))

    def on_test_batch_start(self, _: Any, pl_module: Any, *__: Any) -> None:
        self.tested.append(round(temperature(pl_module.network), 6))


def trainer(folder: Path, *callbacks: L.Callback, **options: Any) -> L.Trainer:
    options = {"max_epochs": 3, "limit_train_batches": 4, "limit_val_batches": 1, **options}
    return L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_test_batches=1,
        **options,
    )


@pytest.mark.parametrize("case", CASES)
def test_the_schedule_is_that_of_the_papers_code(case: dict[str, Any]) -> None:
    callback = KWAttentionTemperatureCallback(epochs=case["temp_epoch"])
    per_epoch = case["iter_per_epoch"]
    for epoch, iteration, value in case["epoch_iteration_value"]:
        step = epoch * per_epoch + iteration
        ours = case["temp_init_value"] * callback.temperature(step, per_epoch)
        assert ours == pytest.approx(value, abs=1e-9)


@settings(deadline=None)
@given(
    st.sampled_from(["linear", "cosine", "constant"]), st.floats(0, 1), st.integers(1, 40),
    st.integers(1, 30),
)  # fmt: skip
def test_the_temperature_only_falls_and_ends_at_0(
    schedule: Any, start: float, epochs: int, per_epoch: int
) -> None:
    callback = KWAttentionTemperatureCallback(epochs=epochs, start=start, schedule=schedule)
    steps = range(1, epochs * per_epoch + 3)
    values = [callback.temperature(step, per_epoch) for step in steps]
    assert all(0 <= b <= a <= start for a, b in itertools.pairwise(values))
    assert values[-1] == (start if schedule == "constant" else 0)


def test_training_and_evaluation_see_the_temperature_of_the_step(tmp_path: Path) -> None:
    watch, model = Watch(), module()
    fitter = trainer(tmp_path, KWAttentionTemperatureCallback(epochs=2), watch)
    fitter.fit(model, datamodule=data())
    assert watch.trained == [0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125] + 5 * [0]
    assert watch.validated == [0.5, 0, 0]
    fitter.test(model, datamodule=data(), verbose=False)
    assert watch.tested == [0]


def test_accumulated_batches_share_the_temperature_of_their_step(tmp_path: Path) -> None:
    watch = Watch()
    trainer(
        tmp_path, KWAttentionTemperatureCallback(epochs=2), watch, accumulate_grad_batches=2
    ).fit(module(), datamodule=data())
    assert watch.trained == [0.75, 0.75, 0.5, 0.5, 0.25, 0.25] + 6 * [0]


@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_resumed_run_goes_on_where_it_was(tmp_path: Path, stop_after: int) -> None:
    whole = Watch()
    trainer(tmp_path, KWAttentionTemperatureCallback(epochs=3), whole, max_epochs=4).fit(
        module(), datamodule=data()
    )
    first, second = Watch(), Watch()
    start = trainer(
        tmp_path, KWAttentionTemperatureCallback(epochs=3), first, max_epochs=stop_after
    )
    start.fit(module(), datamodule=data())
    start.save_checkpoint(tmp_path / "part.ckpt")
    trainer(tmp_path, KWAttentionTemperatureCallback(epochs=3), second, max_epochs=4).fit(
        module(), datamodule=data(), ckpt_path=tmp_path / "part.ckpt", weights_only=True
    )
    assert first.trained + second.trained == whole.trained


def test_averaged_weights_are_evaluated_at_the_present_temperature(tmp_path: Path) -> None:
    for order in (0, 1):
        watch, model = Watch(), module()
        both = [KWAttentionTemperatureCallback(epochs=2), EMACallback(decay=0.99)]
        fitter = trainer(tmp_path, *(both if order else both[::-1]), watch)
        fitter.fit(model, datamodule=data())
        fitter.save_checkpoint(tmp_path / "end.ckpt")
        assert watch.validated == [0.5, 0, 0]
        fresh = trainer(tmp_path, watch)
        fresh.test(module(), datamodule=data(), ckpt_path=tmp_path / "end.ckpt", verbose=False)
        assert watch.tested == [0]


def test_a_checkpoint_holds_the_temperature(tmp_path: Path) -> None:
    model = module()
    fitter = trainer(tmp_path, KWAttentionTemperatureCallback(epochs=2), max_epochs=1)
    fitter.fit(model, datamodule=data())
    fitter.save_checkpoint(tmp_path / "half.ckpt")
    loaded = KWClassifier.load_from_checkpoint(tmp_path / "half.ckpt", weights_only=True)
    assert temperature(loaded.network) == pytest.approx(0.5)


def test_a_network_without_attention_is_an_error(tmp_path: Path) -> None:
    plain = ImageClassifier("mnist_demo_pytorch", num_classes=10, in_chans=1)
    with pytest.raises(ValueError, match="no KernelWarehouse layer"):
        trainer(tmp_path, KWAttentionTemperatureCallback()).fit(plain, datamodule=data())


def test_training_that_ends_before_the_annealing_is_warned_about(tmp_path: Path) -> None:
    callback = KWAttentionTemperatureCallback(epochs=20)
    with pytest.warns(UserWarning, match="training ends after 12 steps, before the temperature"):
        trainer(tmp_path, callback).fit(module(), datamodule=data())


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"start": 1.5}, {"start": -0.1}, {"schedule": "step"}]
)
def test_an_argument_out_of_its_range_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))} is"):
        KWAttentionTemperatureCallback(**options)
