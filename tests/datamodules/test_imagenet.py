import json
import multiprocessing
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, OnExceptionCheckpoint
from torch import Tensor, nn

from datamodules import ImageNetDataModule

Batch = tuple[Tensor, Tensor, Tensor]


class Witness(LightningModule):
    """Learns from the pixels and remembers the rows that it was shown."""

    def __init__(self, fails_after: int | None = None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 3)
        self.fails_after = fails_after
        self.trained: list[list[int]] = []
        self.validated: list[list[int]] = []
        self.tested: list[list[int]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets, rows = batch
        if len(self.trained) == self.fails_after:
            raise RuntimeError("interrupted")
        self.trained.append(rows.tolist())
        return nn.functional.cross_entropy(self.head(self.norm(images).mean(dim=(2, 3))), targets)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.validated.append(batch[2].tolist())

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.tested.append(batch[2].tolist())

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return batch[2]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(*callbacks: Callback, **options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    limits = {"max_epochs": 2, "accelerator": "cpu", "devices": 1, "num_sanity_val_steps": 0}
    saves = any(isinstance(one, ModelCheckpoint | OnExceptionCheckpoint) for one in callbacks)
    return Trainer(
        callbacks=list(callbacks), **{**quiet, **limits, "enable_checkpointing": saves, **options}
    )


def small(root: Path, **options: Any) -> ImageNetDataModule:
    defaults = {"batch_size": 4, "input_size": 16, "num_workers": 0, "seed": 5}
    return ImageNetDataModule(str(root), **{**defaults, **options})


def flat(batches: list[list[int]]) -> list[int]:
    return [row for rows in batches for row in rows]


@pytest.fixture(autouse=True)
def _quiet_lightning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield


@pytest.fixture
def own_folders(image_folders: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(image_folders, tmp_path / "images"))


# Real images


def test_small_imagenet_trains_and_is_evaluated(shared_data: Path) -> None:
    data = ImageNetDataModule(
        str(shared_data / "imagenet-mini"),
        batch_size=16,
        input_size=32,
        interpolation="bicubic",
        auto_augment="rand-m9-mstd0.5-inc1",
        erase_prob=0.25,
        holdout=40,
        num_workers=1,
    )
    assert (data.num_classes, data.in_chans, data.input_size) == (20, 3, (3, 32, 32))
    witness = Witness()
    witness.head = nn.Linear(3, 20)
    one = trainer(max_epochs=1, limit_train_batches=4)
    one.fit(witness, datamodule=data)
    one.test(witness, datamodule=data, verbose=False)
    assert (data.num_train, data.num_val, data.num_test) == (295, 40, 165)
    assert len(flat(witness.trained)) == 64
    held = flat(witness.validated)
    assert not set(held) & set(flat(witness.trained))
    assert torch.bincount(data.train_images.targets[held]).tolist() == [2] * 20
    assert flat(witness.tested) == list(range(165))


# Number of classes


def test_without_data_there_are_a_thousand_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVSUITE_DATA", str(tmp_path / "nowhere"))
    assert ImageNetDataModule().num_classes == 1000
    assert ImageNetDataModule(num_classes=5000).num_classes == 5000
    with pytest.raises(FileNotFoundError, match=r"no folder train in .*nowhere;") as error:
        ImageNetDataModule().setup("fit")
    assert "\n" not in str(error.value)


def test_class_folders_are_counted(image_folders: Path, own_folders: Path) -> None:
    assert small(image_folders).num_classes == 3
    shutil.rmtree(own_folders / "train")
    assert small(own_folders).num_classes == 3


@pytest.mark.parametrize("stage", ["fit", "test"])
def test_another_number_of_classes_than_folders_is_refused(stage: str, image_folders: Path) -> None:
    data = small(image_folders, num_classes=1000)
    assert data.num_classes == 1000
    with pytest.raises(ValueError, match=r"num_classes=1000, but .* has 3 class folders"):
        data.setup(stage)


# Which images serve what


def test_nothing_is_validated_on_by_default(image_folders: Path) -> None:
    witness, data = Witness(), small(image_folders)
    trainer(max_epochs=1).fit(witness, datamodule=data)
    trainer().test(witness, datamodule=data, verbose=False)
    assert witness.validated == []
    assert sorted(flat(witness.trained)) == list(range(14))
    assert flat(witness.tested) == list(range(7))
    assert (data.num_train, data.num_val, data.num_test) == (14, 0, 7)
    with pytest.raises(ValueError, match="nothing to validate on with holdout=0"):
        trainer().validate(Witness(), datamodule=data, verbose=False)


@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_a_holdout_is_validated_on_and_never_trained_on(stage: str, image_folders: Path) -> None:
    witness, data = Witness(), small(image_folders, holdout=5, seed=1)
    if stage == "fit":
        trainer(max_epochs=1).fit(witness, datamodule=data)
        seen = flat(witness.trained) + flat(witness.validated)
        assert sorted(seen) == list(range(14))
    else:
        trainer().validate(witness, datamodule=data, verbose=False)
    other = Witness()
    trainer().validate(other, datamodule=small(image_folders, holdout=5, seed=2), verbose=False)
    assert flat(witness.validated) == flat(other.validated)
    assert len(flat(witness.validated)) == 5
    assert (data.num_train, data.num_val, data.num_test) == (9, 5, 7)


def test_the_reported_images_are_validated_on_where_that_is_said(image_folders: Path) -> None:
    witness, data = Witness(), small(image_folders, validate_on_test=True, eval_batch_size=5)
    trainer(max_epochs=1).fit(witness, datamodule=data)
    assert witness.validated == [[0, 1, 2, 3, 4], [5, 6]]
    assert sorted(flat(witness.trained)) == list(range(14))
    assert (data.num_train, data.num_val, data.num_test) == (14, 7, 7)


def test_testing_needs_no_training_images(own_folders: Path) -> None:
    shutil.rmtree(own_folders / "train")
    witness = Witness()
    trainer().test(witness, datamodule=small(own_folders), verbose=False)
    assert flat(witness.tested) == list(range(7))
    predicted = trainer().predict(Witness(), datamodule=small(own_folders))
    assert predicted is not None
    assert torch.cat(predicted).tolist() == list(range(7))


def test_a_val_of_fewer_classes_says_which_they_are(own_folders: Path) -> None:
    shutil.rmtree(own_folders / "val" / "b")
    data = small(own_folders, fewer_classes_in_val=True)
    data.setup()
    assert data.num_classes == 3
    assert data.test_classes is not None
    assert data.test_classes.tolist() == [0, 2]
    assert {int(target) for batch in data.test_dataloader() for target in batch[1]} == {0, 2}
    with pytest.raises(ValueError, match="val lacks 1 of the class folders"):
        small(own_folders).setup()


def test_evaluated_images_may_have_another_size(image_folders: Path) -> None:
    data = small(image_folders, eval_size=20)
    assert next(iter(data.train_dataloader()))[0].shape == (4, 3, 16, 16)
    assert next(iter(data.test_dataloader()))[0].shape == (4, 3, 20, 20)


def test_evaluation_is_not_random(image_folders: Path) -> None:
    loader = small(image_folders).test_dataloader()
    for (first, *_), (second, *_) in zip(loader, loader, strict=True):
        assert torch.equal(first, second)


def test_options_of_training_reach_the_loader(image_folders: Path) -> None:
    dropped = small(image_folders, drop_last=True).train_dataloader()
    assert [len(rows) for _, _, rows in dropped] == [4, 4, 4]
    repeated = small(image_folders, repeats=3).train_dataloader()
    assert len({int(row) for _, _, rows in repeated for row in rows}) == 5


# Several devices, interrupted training


def test_two_devices_train_validate_and_test_exactly(image_folders: Path, tmp_path: Path) -> None:
    class Report(Callback):
        def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
            seen = {name: getattr(pl_module, name) for name in ("trained", "validated", "tested")}
            path = tmp_path / f"{trainer.state.fn.value}{trainer.global_rank}"
            path.write_text(json.dumps(seen))

    def seen(stage: str, kind: str) -> list[int]:
        reports = [json.loads((tmp_path / f"{stage}{rank}").read_text()) for rank in range(2)]
        return [row for report in reports for row in flat(report[kind])]

    data = small(image_folders, holdout=5, batch_size=2)
    two = {"devices": 2, "strategy": "ddp_fork", "max_epochs": 1, "use_distributed_sampler": False}
    trainer(Report(), **two).fit(Witness(), datamodule=data)
    trainer(Report(), **two).test(Witness(), datamodule=data, verbose=False)
    assert len(seen("fit", "trained")) == 10
    assert len(set(seen("fit", "trained"))) == 9
    assert sorted({*seen("fit", "trained"), *seen("fit", "validated")}) == list(range(14))
    assert len(seen("fit", "validated")) == 5
    assert sorted(seen("test", "tested")) == list(range(7))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batches", [0, 2, 4, 6])
def test_training_resumed_in_an_epoch_ends_with_the_same_weights(
    batches: int, workers: int, image_folders: Path, tmp_path: Path
) -> None:
    options = {
        "holdout": 2,
        "repeats": 2,
        "batch_size": 3,
        "auto_augment": "rand-m9-mstd0.5-inc1",
        "erase_prob": 0.5,
    }
    torch.manual_seed(0)
    whole, failed, resumed = Witness(), Witness(fails_after=batches), Witness()
    failed.load_state_dict(whole.state_dict())
    trainer().fit(whole, datamodule=small(image_folders, **options))
    with pytest.raises(RuntimeError, match="interrupted"):
        trainer(OnExceptionCheckpoint(tmp_path, "failed")).fit(
            failed, datamodule=small(image_folders, **options)
        )
    rest = small(image_folders, num_workers=workers, **options)
    trainer().fit(resumed, datamodule=rest, ckpt_path=tmp_path / "failed.ckpt")
    assert failed.trained + resumed.trained == whole.trained
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


@pytest.mark.parametrize("fails_after", [None, 1])
def test_no_worker_outlives_its_training(fails_after: int | None, image_folders: Path) -> None:
    before = set(multiprocessing.active_children())
    data = small(image_folders, holdout=4, num_workers=2)
    one = trainer()
    if fails_after is None:
        one.fit(Witness(), datamodule=data)
    else:
        with pytest.raises(RuntimeError, match="interrupted"):
            one.fit(Witness(fails_after), datamodule=data)
    assert not set(multiprocessing.active_children()) - before


def test_lightning_takes_the_loader_for_one_that_can_be_resumed(
    image_folders: Path, tmp_path: Path
) -> None:
    keep_all = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
    trainer(keep_all).fit(Witness(), datamodule=small(image_folders))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = small(image_folders)
        trainer().fit(Witness(), datamodule=data, ckpt_path=tmp_path / "step=2.ckpt")
    assert not [warning for warning in caught if "resum" in str(warning.message)]


def test_order_and_images_follow_the_seed_of_the_run(
    image_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches(seed: int | None) -> list[tuple[list[int], bytes]]:
        loader = small(image_folders, seed=seed).train_dataloader()
        return [(rows.tolist(), images.numpy().tobytes()) for images, _, rows in loader]

    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert batches(None) == batches(0)
    monkeypatch.setenv("PL_GLOBAL_SEED", "17")
    assert batches(None) == batches(17) != batches(0)


# Broken images


def break_image(folder: Path) -> Path:
    path = sorted(folder.rglob("*.jpg"))[3]
    path.write_bytes(path.read_bytes()[:-200])
    return path


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_training_image_ends_the_run_and_is_named(workers: int, own_folders: Path) -> None:
    path = break_image(own_folders / "train")
    data = small(own_folders, num_workers=workers)
    with pytest.raises(ValueError, match=f"{path} cannot be read .*truncated.*replace it") as error:
        trainer().fit(Witness(), datamodule=data)
    assert "\n" not in str(error.value)
    assert "--data.init_args.on_broken_image=skip" in str(error.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_training_image_is_skipped_counted_and_named(
    workers: int, own_folders: Path, tmp_path: Path
) -> None:
    path = break_image(own_folders / "train")
    witness = Witness()
    data = small(own_folders, on_broken_image="skip", num_workers=workers)
    first = trainer(max_epochs=1)
    with pytest.warns(UserWarning, match=f"{path} cannot be read") as caught:
        first.fit(witness, datamodule=data)
    assert len([one for one in caught if str(path) in str(one.message)]) == 1
    assert len(set(flat(witness.trained))) == len(flat(witness.trained)) == 13
    assert data.broken_images == [str(path)]
    assert data.run_facts() == {"broken_images": {"count": 1, "paths": [str(path)]}}
    # A resumed run knows it before it has come across it.
    first.save_checkpoint(tmp_path / "end.ckpt")
    resumed = small(own_folders, on_broken_image="skip")
    trainer(max_epochs=1).fit(Witness(), datamodule=resumed, ckpt_path=tmp_path / "end.ckpt")
    assert resumed.broken_images == [str(path)]


@pytest.mark.parametrize("split", ["val", "holdout"])
def test_a_broken_image_is_never_left_out_of_an_evaluation(split: str, own_folders: Path) -> None:
    path = break_image(own_folders / ("val" if split == "val" else "train"))
    data = small(own_folders, on_broken_image="skip", holdout=13)
    evaluate = trainer().test if split == "val" else trainer().validate
    with pytest.raises(ValueError, match=f"{path} cannot be read .* counts every image") as error:
        evaluate(Witness(), datamodule=data, verbose=False)
    assert "\n" not in str(error.value)


def test_without_broken_images_there_is_nothing_to_record(image_folders: Path) -> None:
    data = small(image_folders, on_broken_image="skip")
    list(data.train_dataloader())
    assert data.run_facts() == {}
    assert data.state_dict() == {}


# The run's record


def test_the_fingerprint_tells_data_apart(image_folders: Path, own_folders: Path) -> None:
    first, same = small(image_folders).fingerprint, small(own_folders, holdout=2).fingerprint
    assert same == {
        "name": "ImageNet",
        "sha256": first["sha256"],
        "classes": 3,
        "train": 12,
        "val": 2,
        "test": 7,
    }
    assert json.loads(json.dumps(same)) == same
    break_image(own_folders / "val")
    assert small(own_folders).fingerprint["sha256"] != first["sha256"]


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"eval_batch_size": 0}, "eval_batch_size=0 must be at least 1"),
        ({"num_classes": 0}, "num_classes=0 must be at least 1"),
        ({"repeats": 0}, "repeats=0 must be at least 1"),
        ({"holdout": -1}, "holdout=-1 must be at least 0"),
        ({"input_size": 0}, "input_size=0 must be at least 1"),
        ({"eval_size": 0}, "eval_size=0 must be at least 1"),
        ({"num_workers": -1}, "num_workers=-1 must be at least 0"),
        ({"prefetch_factor": 0}, "prefetch_factor=0 must be at least 1"),
        ({"decode": "slow"}, "decode='slow' must be 'pil' or 'fast'"),
        ({"on_broken_image": "replace"}, "on_broken_image='replace' must be 'raise' or 'skip'"),
        ({"holdout": 3, "validate_on_test": True}, "holdout=3 and validate_on_test=true are two"),
        ({"decode": "fast", "auto_augment": "rand-m9"}, "decode='fast' has no auto_augment"),
        ({"interpolation": "random"}, "interpolation='random' must be"),
    ],
)
def test_an_option_without_sense_is_named(
    options: dict[str, Any], message: str, image_folders: Path
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        small(image_folders, **options)
    assert "\n" not in str(error.value)


def test_a_holdout_of_everything_is_refused(image_folders: Path) -> None:
    with pytest.raises(ValueError, match="holdout=14 leaves nothing to train on of the 14 images"):
        small(image_folders, holdout=14).setup("fit")


def test_options_can_be_set_from_a_config_and_are_explained(
    image_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_subclass_arguments(LightningDataModule, "data")
    init_args = {
        "root": str(image_folders),
        "scale": [0.2, 1.0],
        "mean": [0.4, 0.5, 0.6],
        "train_interpolation": "random",
        "color_jitter": 0.4,
        "lighting": 0.1,
        "crop_pct": 0.95,
    }
    config = {"data": {"class_path": "datamodules.ImageNetDataModule", "init_args": init_args}}
    data = parser.instantiate(parser.parse_object(config)).data
    assert data.train_transform.scale == (0.2, 1.0)
    assert data.train_transform.mean == data.eval_transform.mean == (0.4, 0.5, 0.6)
    assert data.train_transform.interpolation == "random"
    assert data.eval_transform.interpolation == "bilinear"
    with pytest.raises(SystemExit):
        parser.parse_args(["--data.help", "datamodules.ImageNetDataModule"])
    explained = capsys.readouterr().out
    for option in (*init_args, "holdout", "validate_on_test", "repeats", "decode", "num_workers"):
        assert f"--data.{option}" in explained
    assert "no honest result" in " ".join(explained.split())
