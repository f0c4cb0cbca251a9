from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from experiments.__main__ import main
from experiments.cli import build
from lit_models.official import official_state

ROW = "mobilenetv2_050_kw1x"
CONFIG = f"configs/kernel_warehouse/imagenet/{ROW}.yaml"


@pytest.fixture(scope="module")
def official(repository: Path) -> dict[str, Tensor]:
    """Weights of the row as the authors name them."""
    torch.manual_seed(0)
    module, _ = build([repository / CONFIG], device="cpu")
    return {key: value.clone() for key, value in official_state(module.network).items()}  # type: ignore[arg-type]


@pytest.fixture
def checkpoint(official: dict[str, Tensor], tmp_path: Path) -> Path:
    """A checkpoint as the authors' training script saves it."""
    path = tmp_path / "official.pth"
    torch.save({"model": {f"module.{k}": v for k, v in official.items()}, "epoch": 299}, path)
    return path


def convert(row: str, *arguments: object) -> int:
    options = ["--family", "kernel_warehouse", "--row", row]
    return main(["convert", *options, *map(str, arguments)])


def test_there_and_back_gives_the_same_tensors(
    official: dict[str, Tensor], checkpoint: Path, tmp_path: Path
) -> None:
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.pth"
    assert convert(ROW, checkpoint, ours) == 0
    assert convert(ROW, "--to", "official", ours, back) == 0
    returned = torch.load(back, weights_only=True)
    assert list(returned) == list(official)
    assert all(torch.equal(returned[key], official[key]) for key in official)


def test_what_was_converted_loads_strictly_into_timms_network(
    official: dict[str, Tensor], checkpoint: Path, tmp_path: Path
) -> None:
    import timm

    assert convert(ROW, checkpoint, tmp_path / "ours.safetensors") == 0
    network = timm.create_model("kw1x_mobilenetv2_050")
    network.load_state_dict(load_file(tmp_path / "ours.safetensors"), strict=True)
    assert all(map(torch.equal, official_state(network).values(), official.values()))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("mobilenetv2_050_kw4x", "not the weights of this network"),
        ("mobilenetv2_050_kw1", "has no row 'mobilenetv2_050_kw1'; nearest: mobilenetv2_050_kw1x"),
    ],
)
def test_another_row_is_refused_in_one_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], row: str, says: str
) -> None:
    assert convert(row, checkpoint, tmp_path / "out.pth") != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not (tmp_path / "out.pth").exists()


def test_an_unknown_family_is_answered_with_those_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "--family", "warehouse", "--row", "x", "a", "b"]) == 2
    assert "kernel_warehouse" in capsys.readouterr().err


def test_a_missing_checkpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(ROW, tmp_path / "none.pth", tmp_path / "out.pth") == 1
    assert f"no checkpoint at {tmp_path / 'none.pth'}" in capsys.readouterr().err
