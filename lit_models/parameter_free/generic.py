"""Parameter-free operations in any backbone."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

from timm.layers import Attention
from timm.models.pit import PoolingVisionTransformer
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lit_models.parameter_free.layers import EffLayer
from lit_models.parameter_free.operations import (
    PARAMETER_FREE,
    ParameterFreeOperation,
    Size,
    bare_operation,
)
from lit_models.surgery import replace_modules

Where = Literal["convolutions", "attention"]


def parameter_free_network(
    network: nn.Module,
    operation: ParameterFreeOperation = "max_pool",
    *,
    where: Where | None = None,
    alternate: bool = True,
) -> nn.Module:
    """Put a parameter-free operation in the place of a network's spatial layers, in place.

    - `convolutions`: every plain convolution that is larger than 1x1 and keeps the number of
      channels becomes the operation with the same window, stride, padding and dilation. What
      follows it in the network, a norm for example, stays; the authors' own bottlenecks have
      neither norm nor activation there.
    - `attention`: the self-attention of every second block (the first keeps its own) of a stage
      becomes an `EffLayer` of the same width. Its linear layers start anew, as the network's do.

    Args:
        network: Any network of timm's, or another one.
        operation: The operation.
        where: What is replaced; None for the attention of a transformer, else the convolutions.
        alternate: False to replace the attention of every block.

    Returns:
        The network; the network's own module if it is itself replaced.

    Raises:
        ValueError: If an argument is out of its range or nothing can be replaced.
    """
    if operation not in PARAMETER_FREE:
        known = ", ".join(PARAMETER_FREE)
        raise ValueError(f"operation is {operation!r}; parameter-free ones are {known}")
    if where not in (None, "convolutions", "attention"):
        raise ValueError(f"where is {where!r}; it must be convolutions or attention")
    if where is None:
        where = "attention" if any(True for _ in _tokens(network)) else "convolutions"
    if where == "attention":
        return _replace_attention(network, operation, alternate)
    return _replace_convolutions(network, operation)


def _replace_convolutions(network: nn.Module, operation: ParameterFreeOperation) -> nn.Module:
    built: dict[nn.Module, nn.Module] = {}
    reasons = []
    for name, module in network.named_modules():
        if isinstance(module, _ConvNd):
            try:
                built[module] = _like(module, operation)
            except ValueError as error:
                reasons.append(f"{name}: {error}")
    if not built:
        raise ValueError(
            f"no convolution of {type(network).__name__} can be replaced by {operation}; "
            f"{reasons[0] if reasons else 'it has none'}"
        )
    return replace_modules(
        network, lambda _, module: module in built, lambda _, module: built[module]
    ).network


def _like(conv: _ConvNd, operation: ParameterFreeOperation) -> nn.Module:
    """Return the operation with the window of a convolution.

    Raises:
        ValueError: If it cannot stand there; says why.
    """
    if type(conv) is not nn.Conv2d:
        raise ValueError(f"it is a {type(conv).__name__}, not a plain convolution")
    if conv.kernel_size == (1, 1):
        raise ValueError("it is pointwise")
    if conv.in_channels != conv.out_channels:
        raise ValueError(f"it makes {conv.out_channels} channels of {conv.in_channels}")
    if conv.padding_mode != "zeros":
        raise ValueError(f"its padding is {conv.padding_mode}")
    padding: Size | None = None
    if isinstance(conv.padding, tuple):
        padding = conv.padding
    elif conv.padding == "valid":
        padding = 0
    elif any(size % 2 == 0 for size in conv.kernel_size):
        raise ValueError("its padding is lopsided")
    return bare_operation(
        operation, conv.out_channels, conv.kernel_size, conv.stride, padding, conv.dilation
    )


class _Tokens(NamedTuple):
    """Where tokens come from, and which modules work on them.

    Attributes:
        source: Module whose output the tokens are.
        inside: Name of the module that works on them; empty for the network.
        prefix: Tokens before those of the image.
    """

    source: nn.Module
    inside: str
    prefix: int


def _tokens(network: Any) -> Iterator[_Tokens]:
    """Find where the tokens of a transformer lie in the image: timm's ViTs and PiTs say so."""
    if not any(type(module) is Attention for module in network.modules()):
        return
    if isinstance(network, PoolingVisionTransformer):
        transformer: Any = network
        for index, stage in enumerate(transformer.transformers):
            source = transformer.patch_embed if stage.pool is None else stage.pool
            yield _Tokens(source, f"transformers.{index}", transformer.num_tokens)
    elif hasattr(getattr(network, "patch_embed", None), "dynamic_feat_size"):
        yield _Tokens(network.patch_embed, "", network.num_prefix_tokens)


def _replace_attention(
    network: nn.Module, operation: ParameterFreeOperation, alternate: bool
) -> nn.Module:
    layers: dict[str, EffLayer] = {}
    # How timm's networks start a layer, where they differ from torch.
    start = getattr(network, "_init_weights", None)
    for source, inside, prefix in _tokens(network):
        chosen = _attentions(network, inside, alternate)
        for name, attention in chosen.items():
            layers[name] = EffLayer(
                attention.qkv.in_features,
                num_prefix_tokens=prefix,
                operation=operation,
                proj_drop=attention.proj_drop.p,
            )
            if start:
                layers[name].apply(start)
        if chosen:
            source.register_forward_hook(partial(_follow, [layers[name] for name in chosen]))
    if not layers:
        raise ValueError(
            f"no attention of {type(network).__name__} can be replaced; eff-layers need the "
            "blocks of timm's ViT or PiT, and more than one of them"
        )
    return replace_modules(
        network, lambda name, _: name in layers, lambda name, _: layers[name]
    ).network


def _attentions(network: nn.Module, inside: str, alternate: bool) -> dict[str, Any]:
    """Return the self-attentions to replace; every second in a sequence of blocks."""
    chosen: dict[str, Any] = {}
    blocks: dict[str, int] = {}
    for name, module in network.get_submodule(inside).named_modules(prefix=inside):
        if type(module) is not Attention or module.proj.out_features != module.qkv.in_features:
            continue
        # blocks.3.attn: the fourth of `blocks`.
        sequence = name.rsplit(".", 2)[0]
        index = blocks.setdefault(sequence, 0)
        blocks[sequence] += 1
        if index % 2 or not alternate:
            chosen[name] = module
    return chosen


def _follow(
    layers: list[EffLayer], source: nn.Module, inputs: tuple[Tensor, ...], output: Any
) -> None:
    """Tell eff-layers the grid of the tokens that come from `source` now; a forward hook."""
    patches: Any = source
    if getattr(patches, "strict_img_size", False):
        grid_size = patches.grid_size
    elif hasattr(patches, "dynamic_feat_size"):
        grid_size = patches.dynamic_feat_size(inputs[0].shape[2:])
    else:
        # timm's PiT pools its class token beside the map.
        grid_size = (output[0] if isinstance(output, tuple) else output).shape[2:]
    for layer in layers:
        layer.grid_size = tuple(grid_size)
