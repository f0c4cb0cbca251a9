import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint, OnExceptionCheckpoint
from torch import Tensor, nn

from datamodules import InMemoryDataModule, InMemoryLoader, LabelledImages, Shuffle

counts = st.integers(1, 40)
seeds = st.integers(0, 2**63)


def numbered(count: int, channels: int = 1) -> LabelledImages:
    """Images whose pixels are their row number."""
    rows = torch.arange(count)
    images = rows.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, channels, 2, 2).contiguous()
    return LabelledImages(images, rows % 3)


class Numbers(InMemoryDataModule):
    name = "numbers"
    num_classes = 3
    input_size = (1, 2, 2)

    def __init__(self, train: int = 14, test: int = 7, **options: Any) -> None:
        super().__init__(**{"batch_size": 3, "seed": 5, **options})
        self.sizes = train, test
        self.reads = 0

    def read(self) -> tuple[LabelledImages, LabelledImages]:
        self.reads += 1
        train, test = self.sizes
        return numbered(train), numbered(test)


class Witness(LightningModule):
    """Learns one number and remembers the rows it was shown."""

    def __init__(self, fails_after: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.norm = nn.BatchNorm2d(1)
        self.fails_after = fails_after
        self.trained: list[list[int]] = []
        self.validated: list[list[int]] = []
        self.tested: list[list[int]] = []

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        images, _, rows = batch
        if len(self.trained) == self.fails_after:
            raise RuntimeError("interrupted")
        self.trained.append(rows.tolist())
        return self.weight * self.norm(images).mean()

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        images, _, rows = batch
        self.norm(images)
        self.validated.append(rows.tolist())

    def test_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        self.tested.append(batch[2].tolist())

    def predict_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        return batch[2]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(*callbacks: Callback, **options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    limits = {"max_epochs": 3, "accelerator": "cpu", "devices": 1}
    saves = any(isinstance(callback, Checkpoint) for callback in callbacks)
    options = {**quiet, **limits, "enable_checkpointing": saves, **options}
    return Trainer(callbacks=list(callbacks), **options)


@pytest.fixture(autouse=True)
def _quiet_lightning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield


# Order


@given(count=counts, seed=seeds, epoch=st.integers(0, 1000), buffer=st.none() | counts)
@settings(deadline=None, max_examples=100)
def test_an_order_holds_every_image_once(
    count: int, seed: int, epoch: int, buffer: int | None
) -> None:
    order = Shuffle(seed, buffer).order(count, epoch)
    assert sorted(order.tolist()) == list(range(count))


@pytest.mark.parametrize("buffer", [None, 10])
def test_the_order_follows_from_seed_and_epoch(buffer: int | None) -> None:
    orders = {
        (seed, epoch): tuple(Shuffle(seed, buffer).order(50, epoch).tolist())
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(set(orders.values())) == len(orders)
    torch.manual_seed(99)
    assert tuple(Shuffle(2, buffer).order(50, 3).tolist()) == orders[2, 3]


def test_the_order_of_a_seed_stays_what_it_was() -> None:
    assert Shuffle(0).order(8, 0).tolist() == [4, 1, 3, 5, 0, 2, 6, 7]
    assert Shuffle(1, 3).order(8, 2).tolist() == [1, 0, 4, 5, 3, 6, 7, 2]


@given(count=counts, buffer=counts, seed=seeds)
@settings(deadline=None, max_examples=100)
def test_no_image_leaves_the_buffer_before_it_entered(count: int, buffer: int, seed: int) -> None:
    order = Shuffle(seed, buffer).order(count, 0).tolist()
    assert all(row < place + buffer for place, row in enumerate(order))


def test_a_buffer_of_one_keeps_the_stored_order() -> None:
    assert Shuffle(7, 1).order(20, 3).tolist() == list(range(20))


def test_every_place_in_the_buffer_is_as_likely() -> None:
    first = torch.stack([Shuffle(seed, 4).order(9, 0)[:2] for seed in range(2000)])
    assert torch.bincount(first[:, 0], minlength=4).div(2000).sub(0.25).abs().max() < 0.04
    # Second place: any of the three left (1/4 each) or the image that entered (1/4).
    assert first[:, 1].eq(4).float().mean().item() == pytest.approx(0.25, abs=0.04)


def test_neither_order_nor_batches_touch_the_global_generators() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    data = Numbers(shuffle_buffer=4)
    assert len(list(data.train_dataloader())) == 5
    assert torch.equal(torch.get_rng_state(), before)


# Batches


def test_a_batch_holds_scaled_images_their_classes_and_their_rows() -> None:
    data = numbered(9)
    images, targets, rows = next(iter(InMemoryLoader(data, range(4, 9), 3)))
    assert (images.dtype, targets.dtype, rows.dtype) == (torch.float32, torch.int64, torch.int64)
    assert rows.tolist() == [4, 5, 6]
    assert torch.equal(images, data.images[4:7].float() / 255)
    assert targets.tolist() == [1, 2, 0]


def test_normalised_images_are_those_of_torchvision() -> None:
    from torchvision.transforms.v2.functional import normalize

    data = numbered(50, channels=3)
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    images, _, _ = next(iter(InMemoryLoader(data, range(50), 50, mean=mean, std=std)))
    assert torch.equal(images, normalize(data.images / 255, mean, std))


def test_the_stored_images_are_left_as_they_are() -> None:
    data = numbered(6)
    for images, targets, _ in InMemoryLoader(data, range(6), 2, mean=[0.5], std=[0.5]):
        images.zero_()
        targets.zero_()
    assert torch.equal(data.images, numbered(6).images)
    assert torch.equal(data.targets, numbered(6).targets)


# Shares of several devices


@given(count=counts, world_size=st.integers(1, 5), batch_size=st.integers(1, 7))
@settings(deadline=None, max_examples=200)
def test_evaluation_sees_every_image_once_in_equally_many_batches(
    count: int, world_size: int, batch_size: int
) -> None:
    if count < world_size:
        with pytest.raises(ValueError, match=f"{count} images give {world_size} device"):
            InMemoryLoader(numbered(count), range(count), batch_size, world_size=world_size)
        return
    batches = [
        [rows.tolist() for _, _, rows in loader]
        for loader in (
            InMemoryLoader(
                numbered(count), range(count), batch_size, rank=rank, world_size=world_size
            )
            for rank in range(world_size)
        )
    ]
    seen = [row for device in batches for rows in device for row in rows]
    assert sorted(seen) == list(range(count))
    assert len({len(device) for device in batches}) == 1
    sizes = [len(rows) for device in batches for rows in device]
    assert min(sizes) >= 1
    assert max(sizes) <= batch_size + (world_size > 1)


@given(
    count=counts,
    world_size=st.integers(1, 5),
    batch_size=st.integers(1, 7),
    drop_last=st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_training_shares_are_equally_long(
    count: int, world_size: int, batch_size: int, drop_last: bool
) -> None:
    full = count // (world_size * batch_size)
    if drop_last and not full:
        return
    loaders = [
        InMemoryLoader(
            numbered(count),
            range(count),
            batch_size,
            shuffle=Shuffle(1),
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    batches = [[rows.tolist() for _, _, rows in loader] for loader in loaders]
    sizes = [[len(rows) for rows in device] for device in batches]
    assert all(device == sizes[0] for device in sizes)
    assert all(len(device) == len(loader) for device, loader in zip(sizes, loaders, strict=True))
    seen = [row for device in batches for rows in device for row in rows]
    if drop_last:
        assert sizes[0] == [batch_size] * full
        assert len(set(seen)) == len(seen)
    else:
        assert set(seen) == set(range(count))
        assert len(seen) - count < world_size


def test_devices_share_one_order() -> None:
    def rows(rank: int, world_size: int, batch_size: int) -> Tensor:
        loader = InMemoryLoader(
            numbered(12),
            range(12),
            batch_size,
            shuffle=Shuffle(3),
            rank=rank,
            world_size=world_size,
        )
        return torch.cat([rows for _, _, rows in loader])

    alone = rows(0, 1, 4)
    assert torch.equal(torch.stack([rows(0, 2, 2), rows(1, 2, 2)], dim=1).flatten(), alone)


def test_two_devices_train_validate_and_test_exactly(tmp_path: Path) -> None:
    class Report(Callback):
        def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
            seen = {name: getattr(pl_module, name) for name in ("trained", "validated", "tested")}
            (tmp_path / f"{trainer.state.fn.value}{trainer.global_rank}").write_text(
                json.dumps(seen)
            )

    def seen(stage: str, kind: str) -> list[int]:
        reports = [json.loads((tmp_path / f"{stage}{rank}").read_text()) for rank in range(2)]
        return [row for report in reports for rows in report[kind] for row in rows]

    data = Numbers(train=20, test=9, holdout=9, batch_size=2)
    two = {"devices": 2, "strategy": "ddp_fork", "max_epochs": 2, "num_sanity_val_steps": 0}
    trainer(Report(), **two).fit(Witness(), datamodule=data)
    trainer(Report(), **two).test(Witness(), datamodule=data, verbose=False)
    assert sorted(set(seen("fit", "trained"))) == list(range(11))
    assert len(seen("fit", "trained")) == 2 * 12
    assert sorted(seen("fit", "validated")) == sorted(2 * [*range(11, 20)])
    assert sorted(seen("test", "tested")) == list(range(9))


# Position


def test_an_iterator_asks_for_its_position_when_the_first_batch_is_wanted() -> None:
    position = (0, 0)
    loader = InMemoryLoader(
        numbered(10), range(10), 4, shuffle=Shuffle(0), position=lambda: position
    )
    batches = iter(loader)
    position = (6, 1)
    expected = Shuffle(0).order(10, 6)
    assert torch.equal(torch.cat([rows for _, _, rows in batches]), expected[4:])


TRAININGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no validation": ({}, {}),
    "validation": ({"holdout": 3}, {}),
    "validation within the epoch": ({"holdout": 3}, {"val_check_interval": 0.5}),
    "validation every other epoch": ({"holdout": 3}, {"check_val_every_n_epoch": 2}),
    "counted in steps": ({}, {"max_steps": 12, "max_epochs": -1}),
    "counted in steps, validation": ({"holdout": 3}, {"max_steps": 12, "max_epochs": -1}),
    "limited batches": ({}, {"limit_train_batches": 3}),
    "accumulated gradients": ({}, {"accumulate_grad_batches": 2}),
    "shuffle buffer, last batch dropped": ({"shuffle_buffer": 4, "drop_last": True}, {}),
    "augmentation": ({"crop_padding": 1, "flip": True, "cutout": 1}, {}),
}
MOMENTS: dict[str, dict[str, Any]] = {
    "step": {"every_n_train_steps": 1},
    "epoch": {"every_n_epochs": 1},
    "end of the training epoch": {"every_n_epochs": 1, "save_on_train_epoch_end": True},
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("training", TRAININGS)
def test_resumed_training_sees_the_batches_of_uninterrupted_training(
    training: str, moment: str, tmp_path: Path
) -> None:
    options, limits = TRAININGS[training]
    keep_all = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, **MOMENTS[moment])
    whole = Witness()
    trainer(keep_all, **limits).fit(whole, datamodule=Numbers(**options))
    checkpoints = sorted(tmp_path.glob("*.ckpt"))
    assert checkpoints
    for checkpoint in checkpoints:
        resumed = Witness()
        trainer(**limits).fit(resumed, datamodule=Numbers(**options), ckpt_path=checkpoint)
        loops = torch.load(checkpoint, weights_only=True)["loops"]["fit_loop"]
        done = loops["epoch_loop.batch_progress"]["total"]["ready"]
        assert resumed.trained == whole.trained[done:], checkpoint.name
        for name, value in whole.state_dict().items():  # among them statistics of the pixels
            assert torch.equal(resumed.state_dict()[name], value), (checkpoint.name, name)


@pytest.mark.parametrize("batches", [0, 1, 4, 5, 7])
def test_training_resumed_after_a_failure_repeats_the_failed_batch(
    batches: int, tmp_path: Path
) -> None:
    whole, failed, resumed = Witness(), Witness(fails_after=batches), Witness()
    trainer().fit(whole, datamodule=Numbers())
    with pytest.raises(RuntimeError, match="interrupted"):
        trainer(OnExceptionCheckpoint(tmp_path, "failed")).fit(failed, datamodule=Numbers())
    trainer().fit(resumed, datamodule=Numbers(), ckpt_path=tmp_path / "failed.ckpt")
    assert failed.trained + resumed.trained == whole.trained


def test_finished_training_can_be_prolonged(tmp_path: Path) -> None:
    long, short, rest = Witness(), Witness(), Witness()
    trainer(max_epochs=4).fit(long, datamodule=Numbers())
    first = trainer(max_epochs=2)
    first.fit(short, datamodule=Numbers())
    first.save_checkpoint(tmp_path / "end.ckpt")
    trainer(max_epochs=4).fit(rest, datamodule=Numbers(), ckpt_path=tmp_path / "end.ckpt")
    assert short.trained + rest.trained == long.trained


def test_lightning_takes_the_loader_for_one_that_can_be_resumed(tmp_path: Path) -> None:
    keep_all = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
    trainer(keep_all).fit(Witness(), datamodule=Numbers())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer().fit(Witness(), datamodule=Numbers(), ckpt_path=tmp_path / "step=2.ckpt")
    assert not [warning for warning in caught if "resum" in str(warning.message)]


def test_every_epoch_has_its_order_and_all_images() -> None:
    witness = Witness()
    trainer().fit(witness, datamodule=Numbers())
    rows = [row for batch in witness.trained for row in batch]
    epochs = [rows[start : start + 14] for start in (0, 14, 28)]
    assert all(sorted(epoch) == list(range(14)) for epoch in epochs)
    assert epochs == [Shuffle(5).order(14, epoch).tolist() for epoch in range(3)]


def test_overfitting_sees_the_same_batches_in_every_epoch() -> None:
    witness = Witness()
    trainer(overfit_batches=2).fit(witness, datamodule=Numbers())
    assert witness.trained[:2] == witness.trained[2:4] == witness.trained[4:]


# Which images serve what


def test_the_holdout_is_validated_on_and_never_trained_on() -> None:
    witness = Witness()
    trainer(num_sanity_val_steps=0, max_epochs=1).fit(witness, datamodule=Numbers(holdout=4))
    assert sorted(row for rows in witness.trained for row in rows) == list(range(10))
    assert sorted(row for rows in witness.validated for row in rows) == [10, 11, 12, 13]


def test_a_reported_holdout_is_not_validated_on() -> None:
    witness, data = Witness(), Numbers(holdout=4, evaluate_on="holdout")
    trainer(max_epochs=1).fit(witness, datamodule=data)
    trainer().test(witness, datamodule=data, verbose=False)
    assert data.val_dataloader() == []
    assert witness.validated == []
    assert sorted(row for rows in witness.trained for row in rows) == list(range(10))
    assert [row for rows in witness.tested for row in rows] == [10, 11, 12, 13]
    assert (data.num_train, data.num_val, data.num_test) == (10, 0, 4)


def test_without_a_holdout_all_is_trained_on_and_the_test_set_reported() -> None:
    witness, data = Witness(), Numbers(eval_batch_size=5)
    trainer(max_epochs=1).fit(witness, datamodule=data)
    trainer().test(witness, datamodule=data, verbose=False)
    assert witness.validated == []
    assert witness.tested == [[0, 1, 2, 3, 4], [5, 6]]
    assert (data.num_train, data.num_val, data.num_test) == (14, 0, 7)


def test_prediction_covers_the_reported_images() -> None:
    predicted = trainer().predict(Witness(), datamodule=Numbers())
    assert predicted is not None
    assert torch.equal(torch.cat(predicted), torch.arange(7))


def test_validating_on_nothing_says_so() -> None:
    with pytest.raises(ValueError, match="nothing to validate on with holdout=0"):
        trainer().validate(Witness(), datamodule=Numbers(), verbose=False)


def test_the_data_set_is_read_once() -> None:
    data = Numbers(holdout=2)
    trainer(max_epochs=1).fit(Witness(), datamodule=data)
    trainer().test(Witness(), datamodule=data, verbose=False)
    data.setup("fit")
    assert data.reads == 1


# The run's seed and the run's record


def test_the_order_follows_the_seed_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def order(**options: Any) -> list[int]:
        loader = Numbers(**options).train_dataloader()
        return torch.cat([rows for _, _, rows in loader]).tolist()

    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert order(seed=None) == order(seed=0)
    monkeypatch.setenv("PL_GLOBAL_SEED", "17")
    assert order(seed=None) == order(seed=17) != order(seed=0)


def test_the_fingerprint_tells_data_apart() -> None:
    small, same, other = Numbers(), Numbers(holdout=2), Numbers(test=8)
    assert small.fingerprint["sha256"] == same.fingerprint["sha256"]
    assert small.fingerprint["sha256"] != other.fingerprint["sha256"]
    assert same.fingerprint == {
        "name": "numbers",
        "sha256": small.fingerprint["sha256"],
        "train": 12,
        "val": 2,
        "test": 7,
    }
    assert json.loads(json.dumps(same.fingerprint)) == same.fingerprint


def test_only_training_images_are_augmented() -> None:
    options = {"holdout": 4, "crop_padding": 1, "flip": True, "cutout": 1, "batch_size": 14}
    plain, changed = Numbers(holdout=4, batch_size=14), Numbers(**options)

    def images(loader: Any) -> Tensor:
        return torch.cat([images for images, _, _ in loader])

    assert not torch.equal(images(changed.train_dataloader()), images(plain.train_dataloader()))
    for loader in ("val_dataloader", "test_dataloader"):
        assert torch.equal(images(getattr(changed, loader)()), images(getattr(plain, loader)()))


def test_augmentation_follows_the_seed_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def images() -> Tensor:
        loader = Numbers(seed=None, crop_padding=1, batch_size=14).train_dataloader()
        return {
            int(row): image
            for batch in loader
            for image, row in zip(batch[0], batch[2], strict=True)
        }[7]

    found = []
    for seed in range(12):
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
        found.append(images().numpy().tobytes())
    assert len(set(found)) > 1


def test_number_of_channels_is_that_of_the_input() -> None:
    assert Numbers().in_chans == 1


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"eval_batch_size": -1}, "eval_batch_size=-1 must be at least 1"),
        ({"shuffle_buffer": 0}, "shuffle_buffer=0 must be at least 1"),
        ({"holdout": -1}, "holdout=-1 must be at least 0"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
        ({"evaluate_on": "train"}, "evaluate_on='train' must be"),
        ({"evaluate_on": "holdout"}, "evaluate_on='holdout' .* holdout=0"),
        ({"mean": [0.5]}, r"mean=\[0.5\] and std=None must be given together"),
        ({"mean": [0.5, 0.5], "std": [1.0]}, r"mean=\[0.5, 0.5\] must have one number for each"),
        ({"mean": [0.5], "std": [0.0]}, r"std=\[0.0\] must be positive"),
        ({"crop_padding": -1}, "crop_padding=-1 must be at least 0"),
        ({"cutout": -1}, "cutout=-1 must be at least 0"),
        ({"padding_mode": "edge"}, "padding_mode='edge' must be 'zeros', 'reflect' or 'mean'"),
        ({"padding_mode": "reflect", "crop_padding": 2}, "crop_padding=2 must be less than the"),
        ({"padding_mode": "mean"}, "padding_mode='mean' needs the colour: give mean and std"),
    ],
)
def test_an_option_without_sense_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Numbers(**options)
    assert "\n" not in str(caught.value)


def test_a_holdout_of_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="holdout=14 leaves nothing to train on of the 14"):
        Numbers(holdout=14).setup()


def test_dropping_the_only_batch_is_refused() -> None:
    data = Numbers(batch_size=15, drop_last=True)
    with pytest.raises(ValueError, match="no batch with drop_last and batch_size=15"):
        data.train_dataloader()


def test_options_can_be_set_from_a_config_and_are_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_subclass_arguments(LightningDataModule, "data")
    init_args = {"holdout": 300, "evaluate_on": "holdout", "mean": [0.1], "std": [0.3], "seed": 4}
    config = {"data": {"class_path": "datamodules.DigitsDataModule", "init_args": init_args}}
    data = parser.instantiate(parser.parse_object(config)).data
    assert {name: getattr(data, name) for name in init_args} == init_args
    with pytest.raises(SystemExit):
        parser.parse_args(["--data.help", "datamodules.MNISTDataModule"])
    explained = capsys.readouterr().out
    for option in ("root", "download", *init_args, "batch_size", "eval_batch_size", "drop_last"):
        assert f"--data.{option}" in explained
    assert "Number of last training images" in explained
