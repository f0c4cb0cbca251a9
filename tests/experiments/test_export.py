"""Exports of real runs on the handwritten digits: a small network of every family."""

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from real_runs import fit, newest
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments.__main__ import main
from experiments.cli import build
from experiments.commands.export import KINDS
from experiments.export.formats import FORMATS, METADATA, Safetensors
from experiments.record import RunRecord
from lit_models import ImageClassifier
from lit_models.registry import create_network, register_network

CONFIG = """\
seed_everything: 0
threads: 1
model:
  class_path: lit_models.{model}
  init_args:
    backbone: {backbone}
    backbone_args: {options}
    optimizer: {{name: adamw, lr: 0.003}}
data:
  class_path: datamodules.DigitsDataModule
  init_args: {{batch_size: 32, holdout: 180, mean: {mean}, std: {std}}}
trainer:
  max_epochs: {epochs}
  limit_train_batches: 4
  callbacks: {callbacks}
"""

_SMALL_VIT = "{img_size: 28, patch_size: 7, embed_dim: 32, depth: 2, num_heads: 2}"
NETWORKS = {
    "do_conv": ("DOConvClassifier", "mnist_demo_tensorflow", "{}"),
    "kernel_warehouse": ("KWClassifier", "mnist_demo_tensorflow", "{}"),
    "softmax": (
        "KWClassifier",
        "kw1x_mobilenetv2_050",
        "{}\n    attention_function: softmax",
    ),
    "max_pool": ("ImageClassifier", "bottlenecks_mnist", "{operation: max_pool}"),
    "eff_layer": ("ParameterFreeClassifier", "vit_tiny_patch16_224", _SMALL_VIT),
    "resnext": ("ImageClassifier", "tiny_grouped_convolution", "{}"),
}


def trained(
    folder: Path, network: str = "resnext", backbone: str | None = None, **settings: Any
) -> RunRecord:
    """Record of a short run; settings are those of CONFIG."""
    model, usual, options = NETWORKS[network]
    row = folder / f"{network}.yaml"
    given = {"mean": "null", "std": "null", "epochs": 1, "callbacks": "[]", **settings}
    text = CONFIG.format(model=model, backbone=backbone or usual, options=options, **given)
    row.write_text(text)
    quiet = ["--trainer.enable_progress_bar", "false", "--test_after_fit", "false"]
    assert fit(row, *quiet) == 0
    return newest(row)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunRecord]:
    """Records of runs, one a network, filled as they are asked for."""
    folder = tmp_path_factory.mktemp("runs")
    return _Runs(folder)


class _Runs(dict[str, RunRecord]):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __missing__(self, network: str) -> RunRecord:
        self[network] = trained(self.folder, network)
        return self[network]


def export(run: object, kind: str, *options: object) -> int:
    words = ["export", str(run), "--to", kind, "--images", "9", *map(str, options)]
    return main(words)


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


@cache
def reference(folder: Path, key: str) -> ImageClassifier:
    """A run's classifier with the weights that its last checkpoint has under `key`."""
    module, _ = build([folder / "config.yaml"], device="cpu")
    assert isinstance(module, ImageClassifier)
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)[key]
    weights = {k.removeprefix("network."): v for k, v in state.items() if "network." in k}
    module.network.load_state_dict(weights, strict=True)
    return module.eval()


def expected(record: RunRecord, images: Tensor, key: str = "state_dict") -> Tensor:
    """Logits of the run's classifier, the network as it was trained."""
    with torch.no_grad():
        logits: Tensor = reference(record.folder, key)(images)
    return logits


def run_file(kind: str, file: Path, images: Tensor) -> Tensor:
    """Logits of an exported file, run as its metadata say it is loaded."""
    names: dict[str, Any] = {}
    exec(json.loads(file.with_name(f"{file.name}.json").read_text())["load"], names)
    if kind == "onnx":
        return torch.from_numpy(names["network"](images.numpy()))
    with torch.no_grad():
        logits: Tensor = names["network"](images)
    return logits


def check_every_batch_size(record: RunRecord, network: str, kind: str) -> None:
    assert export(record.folder, kind) == 0
    file = record.folder / "exports" / f"{network}_last{FORMATS[kind].suffix}"
    for batch in (1, 3, 7):
        images = torch.rand(batch, 1, 28, 28)
        torch.testing.assert_close(
            run_file(kind, file, images), expected(record, images), rtol=1e-4, atol=1e-5
        )


def test_another_attention_function_is_made_again(runs: dict[str, RunRecord]) -> None:
    check_every_batch_size(runs["softmax"], "softmax", "safetensors")


def test_the_command_names_the_formats_there_are() -> None:
    assert list(KINDS) == list(FORMATS)


@pytest.mark.parametrize("kind", ["safetensors", "torch.export"])
@pytest.mark.parametrize("network", NETWORKS)
def test_what_was_exported_computes_what_was_trained_on_any_batch(
    runs: dict[str, RunRecord], network: str, kind: str
) -> None:
    check_every_batch_size(runs[network], network, kind)


# torch's exporter translates every operation: ten seconds for a small transformer.
@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_one_onnx_model_computes_what_was_trained_on_any_batch(
    runs: dict[str, RunRecord], network: str
) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra `onnx`")
    pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
    check_every_batch_size(runs[network], network, "onnx")


def test_folded_weights_load_strictly_into_the_plain_network(
    runs: dict[str, RunRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = runs["do_conv"]
    capsys.readouterr()
    assert export(record.folder, "safetensors", "--out", tmp_path / "plain.safetensors") == 0
    plain = create_network("mnist_demo_tensorflow", num_classes=10, in_chans=1).eval()
    plain.load_state_dict(load_file(tmp_path / "plain.safetensors"), strict=True)
    images = torch.rand(5, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), expected(record, images), rtol=1e-4, atol=1e-5)
    printed = capsys.readouterr().out
    assert "48,722 parameters" in printed
    assert "9 of 9 images have the same class" in printed
    assert "import timm, lit_models; " in printed


def test_the_metadata_lie_in_the_file_and_beside_it(
    runs: dict[str, RunRecord], tmp_path: Path
) -> None:
    record = runs["kernel_warehouse"]
    assert export(record.folder, "safetensors", "--out", tmp_path) == 0
    file = tmp_path / "kernel_warehouse_last.safetensors"
    beside = json.loads((tmp_path / f"{file.name}.json").read_text())
    assert beside["run_id"] == record.folder.name
    assert beside["parameters"] == record.facts["parameters"]["training"]
    assert beside["input"]["shape"] == ["batch", 1, 28, 28]
    assert beside["trained_with"]["git"] == record.facts["git"]
    assert beside["temperature"] == 0
    assert beside["verified"]["images"] == 9
    assert [each["batch"] for each in beside["milliseconds"]] == [1, 7]
    with safe_open(file, "pt") as opened:
        inside = json.loads(opened.metadata()[METADATA])
    assert inside.items() <= beside.items()
    assert inside["run_id"] == record.folder.name


def test_averaged_weights_are_exported_where_the_run_validated_them(tmp_path: Path) -> None:
    average = "[{class_path: callbacks.EMACallback, init_args: {decay: 0.9}}]"
    record = trained(tmp_path, callbacks=average)
    assert export(record.folder, "safetensors") == 0
    file = record.folder / "exports" / "resnext_last.safetensors"
    images = torch.rand(3, 1, 28, 28)
    logits = run_file("safetensors", file, images)
    torch.testing.assert_close(logits, expected(record, images))
    assert not torch.allclose(logits, expected(record, images, "current_model_state"), atol=1e-3)
    assert json.loads(file.with_name(f"{file.name}.json").read_text())["weights"] == "averaged"


def test_a_run_is_named_by_its_id_and_a_checkpoint_by_its_path(
    runs: dict[str, RunRecord], tmp_path: Path
) -> None:
    record = runs["resnext"]
    below = record.folder.parents[1]
    by_id = ["--runs", below, "--checkpoint", "best", "--out", tmp_path / "id.safetensors"]
    assert export(record.folder.name, "safetensors", *by_id) == 0
    best = record.folder / "checkpoints" / "best.ckpt"
    assert export(best, "safetensors", "--out", tmp_path / "path.safetensors") == 0
    state = torch.load(best, weights_only=True)["state_dict"]
    for name in ("id", "path"):
        for key, value in load_file(tmp_path / f"{name}.safetensors").items():
            assert torch.equal(value, state[f"network.{key}"])


def test_images_of_another_size_are_exported_for(
    runs: dict[str, RunRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wide.pt2"
    record = runs["resnext"]
    assert export(record.folder, "torch.export", "--size", "20x24", "--out", file) == 0
    images = torch.rand(2, 1, 20, 24)
    torch.testing.assert_close(run_file("torch.export", file, images), expected(record, images))
    assert "images 1x20x24" in capsys.readouterr().out
    assert export(runs["eff_layer"].folder, "torch.export", "--size", "20") == 2
    assert "--size 20x20 does not suit the network: " in last_line(capsys)


def test_a_network_normalises_by_itself_if_it_is_asked_to(
    tmp_path: Path, runs: dict[str, RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    record = trained(tmp_path, mean="[0.3]", std="[0.2]")
    file = tmp_path / "pixels.pt2"
    assert export(record.folder, "torch.export", "--with-normalisation", "--out", file) == 0
    pixels = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(
        run_file("torch.export", file, pixels), expected(record, (pixels - 0.3) / 0.2)
    )
    facts = json.loads((tmp_path / "pixels.pt2.json").read_text())
    assert facts["input"]["normalised_by"] == "the network"
    assert export(record.folder, "safetensors", "--with-normalisation") == 2
    assert "weights alone" in last_line(capsys)
    assert export(runs["resnext"].folder, "torch.export", "--with-normalisation") == 2
    assert "normalises nothing" in last_line(capsys)


@pytest.mark.parametrize("wrong", [0.01, float("nan")])
def test_a_file_that_does_not_agree_is_not_kept(
    runs: dict[str, RunRecord],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    wrong: float,
) -> None:
    file = tmp_path / "kept.safetensors"
    file.write_bytes(b"an earlier export")
    read = Safetensors.read

    def read_wrong(*arguments: Any) -> Any:
        network = read(*arguments)
        return lambda images: network(images) + wrong

    monkeypatch.setattr(Safetensors, "read", read_wrong)
    assert export(runs["resnext"].folder, "safetensors", "--out", file) == 1
    assert "does not compute what the checkpoint does: logits differ by" in last_line(capsys)
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == b"an earlier export"


class _Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.mean() > 0 else x


def _gated(num_classes: int, in_chans: int, **_: Any) -> nn.Module:
    body = nn.Sequential(nn.Flatten(), nn.Linear(784 * in_chans, num_classes))
    return nn.Sequential(body, nn.Sequential(_Gate()))


def test_a_layer_that_cannot_be_exported_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register_network("gated_for_a_test", _gated, {"input_size": (1, 28, 28)})
    record = trained(tmp_path, backbone="gated_for_a_test")
    assert export(record.folder, "torch.export") == 1
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "the network cannot be exported to torch.export in layer 1.0 (_Gate): " in line
    assert not list((record.folder / "exports").iterdir())


def test_an_unknown_run_is_answered_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RunRecord.open(tmp_path / "smoke" / "20260101-000000-abcd", row="smoke").close()
    assert export("20260101-000000-abce", "safetensors", "--runs", tmp_path) == 2
    line = last_line(capsys)
    assert "no run 20260101-000000-abce" in line
    assert str(tmp_path / "smoke" / "20260101-000000-abcd") in line


def test_a_killed_run_without_a_checkpoint_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RunRecord.open(tmp_path, row="smoke", status="running").close()
    assert export(tmp_path, "safetensors") == 2
    assert "this run is killed and has no checkpoint at all" in last_line(capsys)


def test_a_checkpoint_outside_its_run_folder_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lone.ckpt").touch()
    assert export(tmp_path / "lone.ckpt", "safetensors") == 2
    assert "lies in no run folder" in last_line(capsys)


def test_missing_packages_are_named_with_the_way_to_install_them(
    runs: dict[str, RunRecord], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "onnx" in name else find(name)
    )
    assert export(runs["resnext"].folder, "onnx") == 2
    line = last_line(capsys)
    assert "needs onnx, onnxscript, onnxruntime: " in line
    assert "pip install -e '.[onnx]'" in line


@pytest.mark.parametrize(("kind", "says"), [("onnx", "18 and later"), ("safetensors", "none")])
def test_an_opset_that_a_format_does_not_have_is_refused(
    runs: dict[str, RunRecord], capsys: pytest.CaptureFixture[str], kind: str, says: str
) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxscript", reason="needs the extra `onnx`")
    assert export(runs["resnext"].folder, kind, "--opset", "11") == 2
    assert f"--opset 11: {kind} takes {says}" in last_line(capsys)


def test_an_out_that_cannot_be_written_is_said_before_anything_is_computed(
    runs: dict[str, RunRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert export(runs["resnext"].folder, "safetensors", "--out", tmp_path / "file") == 2
    assert f"--out: cannot make {tmp_path / 'file'}" in last_line(capsys)


def test_a_batch_larger_than_the_test_set_is_refused(
    runs: dict[str, RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(runs["resnext"].folder, "safetensors", "--batch-check", "1", "500") == 2
    assert "the data has only 360 test images" in last_line(capsys)
