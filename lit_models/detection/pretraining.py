"""Starting a detector's backbone from weights that were trained to classify."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from lit_models.detection.feature_maps import FeatureMaps, FeatureSettings, prune
from lit_models.official import load_official, read_official
from lit_models.state_dicts import first_differences

CLASSES_OF_IMAGENET = 1000
_PREFIX = "network."


def load_pretrained(
    maps: FeatureMaps,
    settings: FeatureSettings,
    path: str,
    build: Callable[[int], nn.Module],
) -> None:
    """Load the weights of a classification network into the feature maps.

    The file is a run's checkpoint, one that `convert` wrote, or the authors'; it has to fit the
    whole network strictly, the classifier included. Nothing but tensors and plain values is read.

    Args:
        maps: Gets the weights.
        settings: Those of the maps.
        path: The file.
        build: Builds the classification network with a number of classes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or is of another network.
    """
    checkpoint = _read(path)
    hparams = checkpoint.get("hyper_parameters")
    classes = hparams.get("num_classes") if isinstance(hparams, Mapping) else None
    # The random numbers of the training stay what they are without pre-training.
    with torch.random.fork_rng(devices=[]):
        network = build(int(classes or CLASSES_OF_IMAGENET))
    try:
        _load(network, checkpoint)
    except ValueError as error:
        raise ValueError(f"backbone_weights {path}: {error}") from error
    maps.network.load_state_dict(prune(network, settings, maps.levels).state_dict())


def _read(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no backbone_weights at {path}: train the classification row, or convert the authors' "
            "weights (python -m experiments convert), or give null to start from nothing"
        )
    if path.endswith(".safetensors"):
        return dict(load_file(path))
    return read_official(path)


def _load(network: nn.Module, checkpoint: Mapping[str, Any]) -> None:
    """Load a checkpoint, of whatever kind, into the network.

    Raises:
        ValueError: It is another network's.
    """
    state = checkpoint.get("state_dict", checkpoint)
    if isinstance(state, Mapping) and any(str(key).startswith(_PREFIX) for key in state):
        state = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
    elif state.keys() != network.state_dict().keys():
        load_official(network, checkpoint)
        return
    difference = first_differences(network.state_dict(), state)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"these are the weights of another network: {difference}") from error
