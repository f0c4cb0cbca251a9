import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media_shelf import MediaShelf, NothingWaited, quiet_trainer

from callbacks.histograms import BINS, Bins, Histograms, attentions
from datamodules import DigitsDataModule
from lit_models import ImageClassifier, KWClassifier
from lit_models.kernel_warehouse import set_temperature


def warehouse() -> KWClassifier:
    torch.manual_seed(0)
    return KWClassifier("mnist_demo_tensorflow", num_classes=10, in_chans=1)


def fit(model: ImageClassifier, folder: Path, every: int | None, **options: Any) -> MediaShelf:
    callbacks = [] if every is None else [Histograms(folder, every)]
    torch.manual_seed(0)
    trainer = quiet_trainer(folder, *callbacks, limit_train_batches=3, **options)
    trainer.fit(model, datamodule=DigitsDataModule(batch_size=64, seed=0))
    assert isinstance(trainer.logger, MediaShelf)
    return trainer.logger


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "histograms.jsonl").read_text().splitlines()]


def test_gradients_and_attentions_of_the_last_step_are_shown_every_few_epochs(
    tmp_path: Path,
) -> None:
    model = warehouse()
    media = fit(model, tmp_path, 2, max_epochs=4).media
    found = lines(tmp_path)
    assert [line["step"] for line in found if line["kind"] == "attention"] == [3, 3, 9, 9]
    sizes = {name: p.numel() for name, p in model.network.named_parameters()}
    gradients = [line for line in found if line["kind"] == "gradients" and line["epoch"] == 2]
    assert {line["name"]: sum(line["counts"]) for line in gradients} == sizes
    assert {name for name in media if name.startswith("gradients/")} == {
        f"gradients/{name}" for name in sizes
    }
    step, histogram = media["attention/conv2"]
    assert step == 9
    assert histogram.histogram == found[-1]["counts"]
    assert media["attention_cells/conv2"] == (9, found[-1]["cells_in_use"])
    assert 1 < found[-1]["cells_in_use"] <= len(model.network.get_submodule("conv2").weight)


def test_nothing_is_trained_differently_with_histograms(tmp_path: Path) -> None:
    plain, watched = warehouse(), warehouse()
    fit(plain, tmp_path, None, max_epochs=2)
    after_plain = torch.get_rng_state()
    fit(watched, tmp_path, 1, max_epochs=2)
    assert lines(tmp_path)
    assert torch.equal(torch.get_rng_state(), after_plain)
    torch.testing.assert_close(watched.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_a_resumed_run_does_not_repeat_its_lines(tmp_path: Path) -> None:
    for step in (3, 6, 9):
        with (tmp_path / "histograms.jsonl").open("a") as file:
            file.write(json.dumps({"step": step}) + "\n")
    resumed: Any = type("Resumed", (), {"is_global_zero": True, "global_step": 6})()
    Histograms(tmp_path).on_train_start(resumed, warehouse())
    assert [line["step"] for line in lines(tmp_path)] == [3, 6]


def test_a_network_without_attention_has_histograms_of_gradients_alone(tmp_path: Path) -> None:
    model = ImageClassifier("mnist_demo_pytorch", num_classes=10, in_chans=1)
    media = fit(model, tmp_path, 1, max_epochs=1).media
    assert {name.partition("/")[0] for name in media} == {"gradients"}


def test_at_temperature_one_every_mixture_uses_one_cell() -> None:
    network = warehouse().network.train()
    set_temperature(network, 1.0)
    found = attentions(network, torch.rand(3, 1, 28, 28))
    assert list(found) == ["conv1", "conv2"]
    assert found["conv1"].shape[0] == 3
    assert found["conv1"].unique().tolist() == [0, 1]
    assert all(module.training for module in network.modules())
    assert not network.get_submodule("conv1").get_submodule("attention")._forward_hooks


def test_counting_agrees_with_numpy_and_waits_for_no_gpu() -> None:
    bins = BINS["attention"]
    values = torch.rand(10, 3) * 1.9 - 0.9501
    with NothingWaited() as watch:
        counts = bins.histogram(values)
    assert watch.operations
    expected, _ = np.histogram(values.numpy(), bins.edges)
    assert counts.tolist() == expected.tolist()


def test_what_lies_beyond_is_in_the_outer_bins() -> None:
    inf = float("inf")
    counts = Bins(-1.0, 1.0, 2).histogram(torch.tensor([-inf, -5.0, 0.5, 7.0, inf, float("nan")]))
    assert counts.tolist() == [2, 4]


def test_an_epoch_is_the_least() -> None:
    with pytest.raises(ValueError, match="every_n_epochs is 0"):
        Histograms(Path(), 0)
