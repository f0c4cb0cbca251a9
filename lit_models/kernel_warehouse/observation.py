"""Looking at a network without running it for real: what its layers get, how it is divided."""

import copy
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from timm.models import group_modules
from torch import Tensor, nn

_BATCH = 5  # hardly ever a number of windows, heads or channels


class Inputs(NamedTuple):
    """What a layer's inputs have in common over all calls of one pass through the network.

    Attributes:
        batch_first: Whether the first axis was always the batch.
        positions: The largest number of positions of a sample: pixels or tokens.
    """

    batch_first: bool
    positions: int


def skeleton(network: nn.Module) -> nn.Module:
    """Return a copy of the network on the meta device: structure without memory for weights."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(empty, parameter.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, memo)


def observe(network: nn.Module, input_size: tuple[int, ...] | None = None) -> dict[str, Inputs]:
    """Return the inputs of every convolution and linear layer that is called, by module name.

    Args:
        network: Any network; it is not run itself, only its structure.
        input_size: `(C, H, W)` of an image; None for what timm knows about the network.

    Raises:
        ValueError: If the network takes no input of the size.
    """
    structure = skeleton(network).eval()
    seen: dict[str, Inputs] = {}

    def note(name: str, module: nn.Module, x: Tensor) -> None:
        axes = x.shape[1:-1] if isinstance(module, nn.Linear) else x.shape[2:]
        before = seen.get(name, Inputs(True, 0))
        batch_first = before.batch_first and x.ndim > 1 and x.shape[0] == _BATCH
        seen[name] = Inputs(batch_first, max(before.positions, axes.numel()))

    for name, module in structure.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            module.register_forward_pre_hook(
                lambda module, args, name=name: note(name, module, args[0])
            )
    sizes = [input_size] if input_size else list(_likely_sizes(network))
    for size in sizes:
        seen.clear()
        try:
            with torch.no_grad():
                structure(torch.empty(_BATCH, *size, device="meta"))
        except Exception as error:  # whatever a foreign network raises
            failure = str(error).strip().splitlines()[0]
        else:
            return seen
    raise ValueError(
        f"{type(network).__name__} takes no image of the size {sizes[0]} ({failure}); "
        f"give input_size=(channels, height, width)"
    )


def _likely_sizes(network: nn.Module) -> Iterator[tuple[int, ...]]:
    facts = getattr(network, "pretrained_cfg", None) or {}
    channels, *sides = facts.get("input_size", (3, 224, 224))
    sides = list(getattr(getattr(network, "patch_embed", None), "img_size", None) or sides)
    yield (channels, *sides)
    stem = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if stem is not None:
        yield (stem.in_channels, *sides)


def divide(network: nn.Module) -> tuple[dict[str, str], dict[str, str]]:
    """Return the stage and the block of every module, by module name.

    timm's networks tell (`group_matcher`); in others, names are taken for paths: of
    `layers.1.blocks.2.conv`, `layers.1` is the stage and `layers.1.blocks.2` the block. A network
    whose blocks are not in stages is one stage.
    """
    group_matcher: Any = getattr(network, "group_matcher", None)
    try:
        stages = group_modules(network, group_matcher(coarse=True), reverse=True)
        blocks = group_modules(network, group_matcher(coarse=False), reverse=True)
    except (AssertionError, TypeError):  # only one kind of groups, or none
        names = [name for name, _ in network.named_modules()]
        return (
            {name: _path(name, r"^.*?\d+(?=\.|$)") for name in names},
            {name: _path(name, r"^.*\.\d+(?=\.|$)|^\d+") for name in names},
        )
    if len(set(stages.values())) == len(set(blocks.values())):
        stages = dict.fromkeys(stages, 0)
    return (
        {name: f"stage{group}" for name, group in stages.items()},
        {name: f"block{group}" for name, group in blocks.items()},
    )


def _path(name: str, pattern: str) -> str:
    match = re.match(pattern, name)
    return match[0] if match else name.split(".")[0]
