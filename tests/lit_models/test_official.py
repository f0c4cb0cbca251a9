import argparse
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lit_models import official
from lit_models.official import load_official, official_state, read_official, register_translation


class Renamed(nn.Sequential):
    """Its authors called what is `0` here `first`, and kept the bias before the weight."""


def to_ours(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace("first", "0"): value for key, value in state.items()}


def to_official(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace("0", "first"): state[key] for key in ("0.bias", "0.weight")}


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    monkeypatch.setattr(official, "_TRANSLATIONS", [])
    register_translation(lambda network: isinstance(network, Renamed), to_ours, to_official)
    return Renamed(nn.Linear(3, 2))


def theirs() -> dict[str, Tensor]:
    return {"first.bias": torch.tensor([5.0, 6.0]), "first.weight": torch.arange(6.0).view(2, 3)}


def test_weights_are_read_under_the_authors_names(renamed: nn.Module) -> None:
    load_official(renamed, theirs())
    assert renamed[0].bias.tolist() == [5, 6]
    assert list(official_state(renamed)) == ["first.bias", "first.weight"]


def test_a_network_without_a_translation_keeps_its_names(renamed: nn.Module) -> None:
    plain = nn.Linear(3, 2)
    load_official(plain, {"weight": torch.ones(2, 3), "bias": torch.zeros(2)})
    assert plain.weight.eq(1).all()
    assert list(official_state(plain)) == ["weight", "bias"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state, "optimizer": {}, "epoch": 3},
        lambda state: {"state_dict": state},
        lambda state: {"model_ema": state},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"module.{key}": value for key, value in state.items()},
    ],
)
def test_what_the_training_scripts_save_is_unwrapped(wrap: object, renamed: nn.Module) -> None:
    load_official(renamed, wrap(theirs()))
    assert renamed[0].bias.tolist() == [5, 6]


def test_averaged_weights_are_taken_on_request(renamed: nn.Module) -> None:
    averaged = {key: value + 1 for key, value in theirs().items()}
    checkpoint = {"model": theirs(), "model_ema": averaged}
    load_official(renamed, checkpoint)
    assert renamed[0].bias.tolist() == [5, 6]
    load_official(renamed, checkpoint, averaged=True)
    assert renamed[0].bias.tolist() == [6, 7]
    with pytest.raises(ValueError, match="no averaged weights"):
        load_official(renamed, {"model": theirs()}, averaged=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first.weight": None}, "they lack 'first.weight'"),
        ({"first.weight": torch.zeros(2, 4)}, r"'first.weight' has the shape \(2, 4\), not"),
        ({"second.weight": torch.zeros(1)}, "they have 'second.weight' besides"),
    ],
)
def test_another_networks_weights_are_refused_and_nothing_changes(
    change: dict[str, Tensor | None], message: str, renamed: nn.Module
) -> None:
    before = {key: value.clone() for key, value in renamed.state_dict().items()}
    state = {key: value for key, value in {**theirs(), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message) as error:
        load_official(renamed, state)
    assert "\n" not in str(error.value)
    for key, value in renamed.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.ones(2, 3)}, 'Missing key.*"bias"'),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(3)}, "size mismatch for bias"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2), "c": torch.ones(1)}, "Unexpected key"),
    ],
)
def test_so_are_they_without_a_translation(
    state: dict[str, Tensor], message: str, renamed: nn.Module
) -> None:
    plain = nn.Linear(3, 2)
    before = plain.weight.clone()
    with pytest.raises(ValueError, match=message) as error:
        load_official(plain, state)
    assert "\n" not in str(error.value)
    assert torch.equal(plain.weight, before)


@pytest.mark.parametrize("checkpoint", [{}, {"epoch": 3}, {"model": {}}, {"net": {"a": 1}}])
def test_a_checkpoint_without_weights_is_refused(
    checkpoint: dict[str, object], renamed: nn.Module
) -> None:
    with pytest.raises(ValueError, match="no state dict found"):
        load_official(renamed, checkpoint)


def test_a_checkpoint_with_the_scripts_options_is_read(tmp_path: Path) -> None:
    checkpoint = {"model": theirs(), "args": argparse.Namespace(lr=0.1), "epoch": 3}
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    assert read_official(tmp_path / "checkpoint.pth")["model"]["first.bias"].tolist() == [5, 6]


class Intruder:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("code ran",)


def test_code_in_a_checkpoint_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": theirs(), "extra": Intruder()}, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match="cannot be read safely as a checkpoint") as error:
        read_official(tmp_path / "checkpoint.pth")
    assert "\n" not in str(error.value)
    assert "code ran" not in capsys.readouterr().out


def test_a_missing_or_broken_file_gets_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        read_official(tmp_path / "none.pth")
    (tmp_path / "broken.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="cannot be read safely"):
        read_official(tmp_path / "broken.pth")
    torch.save(torch.ones(2), tmp_path / "tensor.pth")
    with pytest.raises(ValueError, match="holds a Tensor, not a checkpoint"):
        read_official(tmp_path / "tensor.pth")
