"""Names of networks: ours are registered with timm, so `timm.create_model` knows them all."""

import difflib
import sys
from collections.abc import Callable
from typing import Any, cast

import timm
from timm.models import generate_default_cfgs, get_pretrained_cfg, register_model
from torch import nn

Builder = Callable[..., nn.Module]


def register_network(name: str, build: Builder, **default_cfg: Any) -> None:
    """Make `timm.create_model(name, **options)` return `build(**options)`.

    Args:
        name: Name under which timm will know the network.
        build: Returns the network; receives `num_classes`, `in_chans` and whatever else was given.
        default_cfg: timm's facts about the network (`input_size`, `mean`, `std`, `crop_pct` ...),
            kept as the network's `pretrained_cfg`.
    """

    def entry_point(pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            raise ValueError(
                f"{name} comes without weights; read the authors' with lit_models.load_official"
            )
        # timm hands these to every entry point; a network without downloads has no use for them.
        for unused in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
            options.pop(unused, None)
        network: Any = build(**options)
        facts = get_pretrained_cfg(name)
        assert facts is not None
        network.pretrained_cfg = network.default_cfg = facts.to_dict()
        return cast(nn.Module, network)

    entry_point.__name__ = name
    entry_point.__qualname__ = name
    entry_point.__module__ = build.__module__
    entry_point.__doc__ = build.__doc__
    module = sys.modules[build.__module__]
    config = {"num_classes": 1000, "input_size": (3, 224, 224), **default_cfg}
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
