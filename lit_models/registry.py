"""Names of networks: ours are registered with timm, so `timm.create_model` knows them all."""

import difflib
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

Builder = Callable[..., nn.Module]


def register_network(
    name: str,
    build: Builder,
    facts: Mapping[str, Any],
    features: Mapping[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Make `timm.create_model(name, **options)` return `build(**settings, **options)`.

    timm's own factory stands between them, so that `features_only` and timm's other tools work. The
    options `device` and `dtype` need not be among those of `build`.

    Args:
        name: Name under which timm will know the network.
        build: Returns the network; receives `num_classes`, `in_chans` and whatever else was given.
        facts: timm's facts about the network (`input_size`, `mean`, `first_conv`, `classifier`...),
            kept as the network's `pretrained_cfg`.
        features: How timm takes features out (`out_indices`, `flatten_sequential`, `feature_cls`),
            where that is not its default.
        settings: Options of `build` that make this network; those given to timm come on top.
    """

    def entry_point(
        pretrained: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> nn.Module:
        if pretrained:
            raise ValueError(
                f"{name} comes without weights; read the authors' with lit_models.load_official"
            )
        with nullcontext() if device is None else torch.device(device):
            network: nn.Module = build_model_with_cfg(
                build,
                name,
                pretrained=False,
                feature_cfg=dict(features or {}),
                **{**settings, **options},
            )
        return network if dtype is None else network.to(dtype)

    entry_point.__name__ = name
    entry_point.__qualname__ = name
    # timm groups networks by the module that defines them, and looks for facts there.
    entry_point.__module__ = build.__module__
    entry_point.__doc__ = build.__doc__
    module = sys.modules[build.__module__]
    config = {"num_classes": 1000, "input_size": (3, 224, 224), **facts}
    configs = generate_default_cfgs({name: config})
    module.__dict__.setdefault("default_cfgs", {}).update(configs)
    register_model(entry_point)


def create_network(name: str, **options: Any) -> nn.Module:
    """Return the network that timm knows by `name`, ours included.

    Args:
        name: A name from `timm.list_models()`.
        options: `num_classes`, `in_chans` and the network's own options.

    Raises:
        ValueError: If timm knows no such name; the message has the nearest ones.
    """
    if not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; nearest: {', '.join(near)}" if near else "; see timm.list_models()"
        raise ValueError(f"no network is called {name!r}{hint}")
    network = timm.create_model(name, **options)
    assert isinstance(network, nn.Module)
    return network
