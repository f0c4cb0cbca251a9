"""PiT-max: a transformer that pools, with eff-layers in every second block of a stage."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from timm.layers import trunc_normal_
from timm.models import checkpoint_seq
from timm.models.pit import ConvEmbedding
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.parameter_free.layers import EffLayer, from_map
from lit_models.parameter_free.operations import ParameterFreeOperation

_norm_layer = partial(nn.LayerNorm, eps=1e-6)


class EffStage(nn.Module):
    """Transformer blocks on one map; those of odd index have an eff-layer for their attention.

    Args:
        dim: Width of a token.
        drop_path_rates: Drop path rate of each block.
        operation: What mixes tokens in the eff-layers.
        proj_drop: Dropout rate after attention, eff-layer and each linear layer of an MLP.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        block: What timm's Block takes besides.
    """

    def __init__(
        self,
        dim: int,
        drop_path_rates: Sequence[float],
        operation: ParameterFreeOperation,
        proj_drop: float,
        device: Any = None,
        dtype: Any = None,
        **block: Any,
    ) -> None:
        super().__init__()
        self.grad_checkpointing = False
        common = {"proj_drop": proj_drop, "device": device, "dtype": dtype}
        blocks = []
        for index, rate in enumerate(drop_path_rates):
            part: Any = Block(dim, qkv_bias=True, drop_path=rate, **common, **block)
            if index % 2:
                part.attn = EffLayer(dim, operation=operation, **common)
            blocks.append(part)
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, C, h, w)` of `x: (N, C, h, w)`."""
        grid_size = x.shape[2], x.shape[3]
        for block in self.blocks:
            if isinstance(block.attn, EffLayer):
                block.attn.grid_size = grid_size
        tokens = from_map(x)
        if self.grad_checkpointing:
            tokens = checkpoint_seq(self.blocks, tokens)
        else:
            tokens = self.blocks(tokens)
        mapped: Tensor = tokens.unflatten(1, grid_size).permute(0, 3, 1, 2)
        return mapped


class DepthwisePool(nn.Module):
    """Stage transition: 3x3 convolution of stride 2 by channels, to a multiple of their number."""

    def __init__(self, in_chans: int, out_chans: int, device: Any = None, dtype: Any = None):
        super().__init__()
        options = {"stride": 2, "padding": 1, "groups": in_chans, "device": device, "dtype": dtype}
        self.conv = nn.Conv2d(in_chans, out_chans, 3, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, out_chans, ceil(h / 2), ceil(w / 2))` of `x: (N, in_chans, h, w)`."""
        pooled: Tensor = self.conv(x)
        return pooled


class PoolingTransformerMax(nn.Module):
    """PiT-max, for images of any size from one patch on.

    PiT without class token ("Rethinking Spatial Dimensions of Vision Transformers", ICCV 2021): the
    tokens' mean is classified. Linear and convolutional layers start as torch draws them. The drop
    path rate of block i of n is `drop_path_rate * i / n`.

    Args:
        img_size: Side of the images, or height and width, that the position embedding is made for.
        patch_size: Side of a patch.
        stride: Distance of the patches, which overlap.
        base_dims: Width of a head in each stage.
        depth: Blocks in each stage.
        heads: Heads in each stage.
        mlp_ratio: Width inside an MLP relative to a token's.
        num_classes: Number of classes; 0 for none.
        in_chans: Channels of an image.
        global_pool: `avg`, or empty for the tokens as they are.
        operation: What mixes tokens in the eff-layers.
        drop_rate: Dropout rate before the classifier.
        pos_drop_rate: Dropout rate of the embedded patches.
        proj_drop_rate: Dropout rate inside the blocks.
        attn_drop_rate: Dropout rate of the attention's weights.
        drop_path_rate: See above.
        device: Device of the parameters.
        dtype: Data type of the parameters.
    """

    head: nn.Module

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        stride: int = 8,
        base_dims: Sequence[int] = (48, 48, 48),
        depth: Sequence[int] = (2, 6, 4),
        heads: Sequence[int] = (3, 6, 12),
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        operation: ParameterFreeOperation = "max_pool",
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        place = {"device": device, "dtype": dtype}
        dims = [width * number for width, number in zip(base_dims, heads, strict=True)]
        self.num_features = self.head_hidden_size = self.embed_dim = dims[-1]
        self.in_chans, self.global_pool = in_chans, global_pool
        sides: Any = img_size
        embedding = ConvEmbedding(in_chans, dims[0], sides, patch_size, stride, **place)
        self.pos_embed = nn.Parameter(torch.empty(1, dims[0], *embedding.grid_size, **place))
        trunc_normal_(self.pos_embed, std=0.02)
        self.patch_embed = embedding
        self.pos_drop = nn.Dropout(pos_drop_rate)
        rates = [drop_path_rate * index / sum(depth) for index in range(sum(depth))]
        options = {"mlp_ratio": mlp_ratio, "attn_drop": attn_drop_rate, "norm_layer": _norm_layer}
        self.transformers = nn.ModuleList()
        self.feature_info: list[dict[str, Any]] = []
        for index, (dim, number, blocks) in enumerate(zip(dims, heads, depth, strict=True)):
            ours, rates = rates[:blocks], rates[blocks:]
            self.transformers.append(
                EffStage(dim, ours, operation, proj_drop_rate, num_heads=number, **options, **place)
            )
            name, reduction = f"transformers.{index}", stride * 2**index
            self.feature_info.append({"num_chs": dim, "reduction": reduction, "module": name})
        self.pools = nn.ModuleList(
            DepthwisePool(narrow, wide, **place) for narrow, wide in pairwise(dims)
        )
        self.norm = _norm_layer(dims[-1], **place)
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes)

    def no_weight_decay(self) -> set[str]:
        """Parameters that are not decayed."""
        return {"pos_embed"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameters from the input to the output, as timm's layer decay asks for them."""
        block = r"^transformers\.(\d+)" if coarse else r"^transformers\.(\d+)\.blocks\.(\d+)"
        # What goes with the block before it: a pool with the last of the stage of its index.
        before = [(r"^pools\.(\d+)", (99999,)), (r"^norm", (99999,))]
        return {"stem": r"^pos_embed|patch_embed", "blocks": [(block, None), *before]}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep the blocks' inputs only and compute the rest again in the backward pass."""
        for stage in self.transformers:
            assert isinstance(stage, EffStage)
            stage.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        """The classifier."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; 0 classes for none."""
        self.num_classes = num_classes
        self.global_pool = self.global_pool if global_pool is None else global_pool
        place: dict[str, Any] = {"device": self.pos_embed.device, "dtype": self.pos_embed.dtype}
        features = self.num_features
        head = nn.Linear(features, num_classes, **place) if num_classes > 0 else nn.Identity()
        self.head = head.train(self.training)

    def forward_features(self, x: Tensor) -> Tensor:
        """Normalised tokens `(N, h * w, C)` of the last stage for images `(N, in_chans, H, W)`."""
        x = self.patch_embed(x)
        x = self.pos_drop(x + resize_positions(self.pos_embed, (x.shape[2], x.shape[3])))
        x = self.transformers[0](x)
        for pool, stage in zip(self.pools, self.transformers[1:], strict=True):
            x = stage(pool(x))
        tokens: Tensor = self.norm(from_map(x))
        return tokens

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits `(N, num_classes)` of tokens `x: (N, L, C)`, or before the classifier `(N, C)`."""
        x = x.mean(dim=1) if self.global_pool == "avg" else x
        x = self.head_drop(x)
        logits: Tensor = x if pre_logits else self.head(x)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(N, num_classes)` of images `x: (N, in_chans, H, W)`."""
        return self.forward_head(self.forward_features(x))


@torch.fx.wrap
def resize_positions(positions: Tensor, size: tuple[int, int]) -> Tensor:
    """Position embedding `(1, C, h, w)` for a map of another size, by bicubic interpolation."""
    if positions.shape[2:] == size:
        return positions
    return F.interpolate(positions, size=size, mode="bicubic")
