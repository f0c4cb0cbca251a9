"""The layer of a network whose map is looked at."""

import difflib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiments.compose import ConfigError
from experiments.explain.layouts import Layout, find_layout
from lit_models.kernel_warehouse.layers import KWConv, kernel_layers

# They hand on the map of the layer before them.
_PASSED_OVER = (nn.Identity, nn.Dropout, nn.Dropout2d)
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm1d)


@dataclass(frozen=True)
class SpatialLayer:
    """A layer that gives a map.

    Attributes:
        name: The module's name in the network.
        layout: How its output is a map.
    """

    name: str
    layout: Layout

    def __str__(self) -> str:
        height, width = self.layout.grid
        return f"{self.name} ({height}x{width})"


def find_layer(network: nn.Module, image: Tensor, name: str | None = None) -> SpatialLayer:
    """Return a layer that gives a map of the image.

    By default it is the last one whose map the largest logit depends on. Where a class token is
    read out, that is the normalisation before the last attention: behind it nothing looks at the
    map again.

    Args:
        network: The network, in evaluation mode.
        image: One normalised image `(1, C, H, W)`.
        name: The module; None for the default.

    Raises:
        ConfigError: There is no such module, it gives no map, or no module gives one.
    """
    modules = dict(network.named_modules())
    if name is not None and name not in modules:
        near = difflib.get_close_matches(name, modules, n=5, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else f"it has {_some(list(modules)[1:])}"
        raise ConfigError(f"--layer: {type(network).__name__} has no layer {name!r}; {hint}")
    outputs, score = _observe(network, image)
    maps = _maps(network, outputs, image)
    kind = type(network).__name__
    if name is not None:
        if name not in maps:
            shape = f"gives {tuple(outputs[name].shape)}" if name in outputs else "is not called"
            usual = f"; layers with a map: {_some(list(maps)[::-1])}" if maps else ""
            raise ConfigError(f"--layer: {name} of {kind} {shape}, no map of the image{usual}")
        return SpatialLayer(name, maps[name])
    candidates = [each for each in reversed(maps) if _is_feature_map(modules[each], maps[each])]
    if not candidates:
        raise ConfigError(f"no layer of {kind} gives a map of the image; there is no place to show")
    gradients = torch.autograd.grad(
        score, [outputs[each] for each in candidates], allow_unused=True
    )
    matters = (
        each
        for each, gradient in zip(candidates, gradients, strict=True)
        if gradient is not None and maps[each].to_map(gradient).any()
    )
    # Nothing matters to a classifier of zeros; its maps are blank.
    chosen = next(matters, candidates[0])
    return SpatialLayer(chosen, maps[chosen])


def _observe(network: nn.Module, image: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Outputs of all modules in the order in which they end, and the largest logit."""
    outputs: dict[str, Tensor] = {}

    def note(name: str, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) and output else output
        if isinstance(output, Tensor) and output.requires_grad:
            outputs.pop(name, None)  # called again: the last call counts, and its place
            outputs[name] = output

    hooks = [
        module.register_forward_hook(lambda module, args, output, name=name: note(name, output))
        for name, module in network.named_modules()
        if name
    ]
    # A kernel that was mixed from the mean of all places looks at no place.
    hooks += [
        layer.attention.register_forward_hook(lambda module, args, output: output.detach())
        for layer in kernel_layers(network)
    ]
    try:
        with torch.enable_grad():
            # Also where all weights are frozen, outputs have gradients.
            logits = network(image.clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, logits.amax()


def _maps(network: nn.Module, outputs: dict[str, Tensor], image: Tensor) -> dict[str, Layout]:
    size = (image.shape[2], image.shape[3])
    prefix = getattr(network, "num_prefix_tokens", None)
    # What an operator computes its kernel from is no map, whatever its shape.
    inside = {part for layer in kernel_layers(network) for part in list(layer.modules())[1:]}
    found = {
        name: find_layout(output.shape, size, prefix)
        for name, output in outputs.items()
        # The batch of windows is larger.
        if len(output) == 1 and network.get_submodule(name) not in inside
    }
    return {name: layout for name, layout in found.items() if layout}


def _is_feature_map(module: nn.Module, layout: Layout) -> bool:
    """Whether a map is what a network hands on, and not a part of a computation inside a block."""
    if isinstance(module, _PASSED_OVER):
        return False
    # Linear layers inside attention and MLPs make tokens, too, those of KernelWarehouse as well.
    is_block = any(module.children()) and not isinstance(module, KWConv)
    return layout.order == "NCHW" or is_block or isinstance(module, _NORMS)


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
