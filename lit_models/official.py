"""Weights under their authors' names: reading them into our networks, and the way back.

Knows no family: a family whose names differ registers a translation.
"""

import argparse
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lit_models.state_dicts import first_differences

State = dict[str, Tensor]


class _Translation(NamedTuple):
    matches: Callable[[nn.Module], bool]
    to_ours: Callable[[nn.Module, Mapping[str, Tensor]], State]
    to_official: Callable[[nn.Module, Mapping[str, Tensor]], State]


_TRANSLATIONS: list[_Translation] = []


def register_translation(
    matches: Callable[[nn.Module], bool],
    to_ours: Callable[[nn.Module, Mapping[str, Tensor]], State],
    to_official: Callable[[nn.Module, Mapping[str, Tensor]], State],
) -> None:
    """Say how a family's state dicts translate; the first translation that matches is used.

    Args:
        matches: Whether a network is the family's and its authors named something differently.
        to_ours: From a network and a state dict with the authors' keys to one that
            `network.load_state_dict` takes strictly.
        to_official: The way back, in the authors' order; to it again, `to_ours` gives the same.
    """
    _TRANSLATIONS.append(_Translation(matches, to_ours, to_official))


def load_official(
    network: nn.Module, checkpoint: Mapping[str, Any], *, averaged: bool = False
) -> None:
    """Load a state dict with the authors' keys into the network of the same row, strictly.

    Args:
        network: Any network of the suite. One without a translation is loaded as torch does it, so
            operators that read their authors' entries themselves do so.
        checkpoint: A state dict, or what the authors' training scripts save: a dictionary with one
            under `model`, `state_dict` or `model_ema`, keys with or without the prefix `module.`.
        averaged: Take the averaged weights, `model_ema`, of a checkpoint that has both.

    Raises:
        ValueError: If there is no state dict, or it is another network's: one line that names the
            first difference. The network is as before then.
    """
    state = _unwrap(checkpoint, averaged)
    translation = _translation(network)
    if translation:
        difference = first_differences(
            translation.to_official(network, network.state_dict()), state
        )
        if difference:
            raise ValueError(f"these are not the weights of this network: {difference}")
        state = translation.to_ours(network, state)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        network.load_state_dict(before)
        # Below a heading, torch has a line for what is missing, what is too much and each shape.
        first = str(error).splitlines()[1].strip().split('", ')[0]
        raise ValueError(f"these are not the weights of this network: {first}") from None


def official_state(network: nn.Module) -> State:
    """Return the network's state dict with the authors' keys in the authors' order."""
    state = network.state_dict()
    translation = _translation(network)
    return translation.to_official(network, state) if translation else dict(state)


def read_official(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint file of the authors without running any code that may be in it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds more than tensors, plain values and the options of the script.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        # The training scripts save their parsed options beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} cannot be read safely as a checkpoint: {reason}") from None
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} holds a {type(checkpoint).__name__}, not a checkpoint")
    return checkpoint


def _translation(network: nn.Module) -> _Translation | None:
    return next((entry for entry in _TRANSLATIONS if entry.matches(network)), None)


def _unwrap(checkpoint: Mapping[str, Any], averaged: bool) -> State:
    """Find the state dict in a checkpoint and take the prefix of a wrapper off its keys."""
    names = ("model_ema",) if averaged else ("model", "state_dict", "model_ema")
    found = [checkpoint[name] for name in names if isinstance(checkpoint.get(name), Mapping)]
    if averaged and not found:
        raise ValueError("the checkpoint has no averaged weights (model_ema)")
    state = found[0] if found else checkpoint
    other = next((key for key, value in state.items() if not isinstance(value, Tensor)), None)
    if other is not None or not state:
        raise ValueError(
            f"no state dict found: looked under {', '.join(names)}; "
            f"the keys are {', '.join(map(str, list(checkpoint)[:5]))}"
        )
    if all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return dict(state)
