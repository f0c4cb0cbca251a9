"""Blocks and layers whose spatial operation has no parameters."""

import math
from collections import OrderedDict
from typing import Any

import torch
from timm.models.resnet import Bottleneck
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.parameter_free.operations import (
    PARAMETER_FREE,
    Operation,
    ParameterFreeOperation,
    Size,
    bare_operation,
)


class SpatialBottleneck(Bottleneck):
    """timm's bottleneck with any of `OPERATIONS` between its pointwise convolutions.

    A parameter-free one has neither norm nor activation behind it. It is never dilated: where
    timm's `output_stride` turns a stride into a dilation, the authors' pools keep their 3x3 window.

    Args:
        args: What timm's Bottleneck takes.
        operation: The spatial operation; `conv` is timm's bottleneck itself.
        options: What timm's Bottleneck takes.

    Raises:
        ValueError: If the block would change its width at the spatial operation.
    """

    def __init__(self, *args: Any, operation: Operation, **options: Any) -> None:
        super().__init__(*args, **options)
        _replace_spatial_conv(self, operation)


class MaxBottleneck(Bottleneck):
    """Bottleneck of R50-max: a bare 3x3 max-pool that carries the stride.

    Args:
        args: What timm's Bottleneck takes.
        options: What timm's Bottleneck takes.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _replace_spatial_conv(self, "max_pool")


class EffBottleneck(Bottleneck):
    """Bottleneck of R50-hybrid: a bare 3x3 max-pool, or where it strides a pooled convolution.

    With a stride, a 2x2 average-pool carries it, and a 3x3 convolution with norm and activation
    follows. Maps of odd size are rounded up as in the shortcut; the authors' code fails on them.

    Args:
        args: What timm's Bottleneck takes.
        options: What timm's Bottleneck takes.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        block: Any = self
        conv = block.conv2
        if conv.stride == (1, 1):
            _replace_spatial_conv(self, "max_pool")
            return
        pool = nn.AvgPool2d(conv.stride, ceil_mode=True, count_include_pad=False)
        conv.stride = (1, 1)
        block.conv2 = nn.Sequential(OrderedDict(pool=pool, conv=conv))


class EffLayer(nn.Module):
    """What stands where timm's `Attention` does: linear, GELU, 3x3 max-pool, GELU, linear.

    Prefix tokens (a class token) have no place in the image; they skip the pool.

    Args:
        dim: Width of a token; inside, it is three times as wide.
        grid_size: Rows and columns of the tokens in the image; None if they are a square.
        num_prefix_tokens: Tokens before those of the image.
        operation: What mixes the tokens.
        kernel_size: Height and width of its window.
        proj_drop: Dropout rate of the output.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Attributes:
        grid_size: The networks of this family keep it up to date, whatever the image's size.
    """

    def __init__(
        self,
        dim: int,
        grid_size: tuple[int, int] | None = None,
        num_prefix_tokens: int = 0,
        operation: ParameterFreeOperation = "max_pool",
        kernel_size: Size = 3,
        proj_drop: float = 0.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.grid_size = grid_size
        self.num_prefix_tokens = num_prefix_tokens
        # The names are those of the attention, as in the authors' state dicts.
        self.qkv = nn.Linear(dim, 3 * dim, device=device, dtype=dtype)
        self.pool = bare_operation(operation, 3 * dim, kernel_size)
        self.proj = nn.Linear(3 * dim, dim, device=device, dtype=dtype)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Mixed tokens `(B, N, C)` of `x: (B, N, C)`.

        Args:
            x: Prefix tokens, then those of the image row by row.
            attn_mask: None; there is no attention to mask.
            is_causal: False, likewise.

        Raises:
            ValueError: If there is a mask, or the tokens are not those of the grid.
        """
        _refuse_mask(attn_mask, is_causal)
        x = F.gelu(self.qkv(x))
        prefix = self.num_prefix_tokens
        # A view whose memory format is channels_last, so the pool copies nothing.
        tokens = from_map(self.pool(_to_map(x[:, prefix:] if prefix else x, self.grid_size)))
        x = torch.cat((x[:, :prefix], tokens), dim=1) if prefix else tokens
        mixed: Tensor = self.proj_drop(self.proj(F.gelu(x)))
        return mixed


@torch.fx.wrap
def _to_map(tokens: Tensor, grid_size: tuple[int, int] | None) -> Tensor:
    """View `tokens: (B, h * w, C)` as a map `(B, C, h, w)` in the memory format channels_last.

    Raises:
        ValueError: If there are not h * w tokens.
    """
    batch, number, channels = tokens.shape
    # Written so that TorchScript, too, can compile it.
    side = int(math.sqrt(number))
    height, width = (side, side) if grid_size is None else grid_size
    if number != height * width:
        raise ValueError(
            f"{number} tokens are no map of {height}x{width}; give EffLayer the tokens of a whole "
            "image and their grid_size"
        )
    return tokens.view(batch, height, width, channels).permute(0, 3, 1, 2)


def from_map(x: Tensor) -> Tensor:
    """Tokens `(B, h * w, C)` of a map `x: (B, C, h, w)`; a view if it is channels_last."""
    return x.flatten(2).transpose(1, 2)


@torch.fx.wrap
def _refuse_mask(attn_mask: Tensor | None, is_causal: bool) -> None:
    if attn_mask is not None or is_causal:
        raise ValueError("an EffLayer pools over neighbours and knows no attention mask")


def _replace_spatial_conv(block: Any, operation: Operation) -> None:
    """Put `operation` in the place of a bottleneck's spatial convolution."""
    conv: nn.Conv2d = block.conv2
    if operation == "conv":
        return
    if conv.in_channels != conv.out_channels:
        raise ValueError(
            f"a {operation} keeps the channels, but this bottleneck goes from {conv.in_channels} "
            f"to {conv.out_channels}; leave block_reduce_first at 1"
        )
    if operation in PARAMETER_FREE:
        block.conv2 = bare_operation(operation, conv.out_channels, stride=conv.stride)
        block.bn2, block.act2 = nn.Identity(), nn.Identity()
        return
    block.conv2 = bare_operation(
        operation, conv.out_channels, stride=conv.stride, dilation=conv.dilation
    ).to(conv.weight)


# What a network with parameter-free operations of its own is known by.
PARAMETER_FREE_BLOCKS = (SpatialBottleneck, MaxBottleneck, EffBottleneck, EffLayer)
