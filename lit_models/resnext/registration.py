"""Registering the family's networks with timm, its feature extraction included."""

from collections.abc import Callable
from typing import Any

from timm.models import build_model_with_cfg
from torch import nn

from lit_models.registry import register_network


def register(
    name: str,
    build: Callable[..., Any],
    facts: dict[str, Any],
    features: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Register `build(**settings)`; options given to `timm.create_model` come on top.

    Args:
        name: Name under which timm will know the network.
        build: Returns the network; `features_only` and its options never reach it.
        facts: timm's facts about the network (`input_size`, `first_conv` ...).
        features: How timm extracts features (`out_indices`, `flatten_sequential` ...).
        settings: Options of `build`.
    """

    def network(**options: Any) -> nn.Module:
        # timm's factory wraps feature extractors and notes what its other tools look for.
        built: nn.Module = build_model_with_cfg(
            build,
            name,
            pretrained=False,
            feature_cfg=dict(features or {}),
            **{**settings, **options},
        )
        return built

    network.__doc__ = build.__doc__
    # timm groups networks by the module that defines them.
    network.__module__ = build.__module__
    register_network(name, network, **facts)
