"""The paper's networks, registered with timm under the authors' names, and small ones.

timm has networks under the baselines' names that start by other rules, so the authors' ResNet-50 is
registered as `pf_baseline_resnet50`.
"""

from collections.abc import Callable
from typing import Any

from timm.models.resnet import Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from lit_models.backbones import CIFAR_FACTS, small_stem
from lit_models.parameter_free.generic import parameter_free_network
from lit_models.parameter_free.layers import EffBottleneck, MaxBottleneck, SpatialBottleneck
from lit_models.parameter_free.pooling_transformer import PoolingTransformerMax
from lit_models.registry import register_network


class ParameterFreeResNet(ResNet):
    """timm's ResNet that starts as torch draws its layers, as the authors' does.

    Their code has no zeroed last norms either. It scales the width of the stages, but not of the
    stem: timm's `channels` does the same.
    """

    def init_weights(self, zero_init_last: bool = False) -> None:
        """Draw the convolutions as torch does; all else has started so already."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()


def resnet(block: Any, **options: Any) -> ParameterFreeResNet:
    """Return a ResNet-50 of any bottleneck, for images of ImageNet's size.

    Args:
        block: Bottleneck, MaxBottleneck, EffBottleneck or SpatialBottleneck.
        options: What timm's ResNet takes; `layers` is (3, 4, 6, 3) unless given.
    """
    return ParameterFreeResNet(block, **{"layers": (3, 4, 6, 3), **options})


def small_resnet(block: Any, **options: Any) -> ParameterFreeResNet:
    """Return a ResNet-50 of any bottleneck, for images of 32x32 pixels.

    The stem is a 3x3 convolution at stride 1, without a pool. For the arguments see `resnet`.
    """
    return small_stem(resnet(block, **options))  # type: ignore[no-any-return]


def tiny_resnet(operation: str = "conv", **options: Any) -> ParameterFreeResNet:
    """Return four bottlenecks with any spatial operation, for images of 28x28 pixels.

    The stem is a 3x3 convolution of stride 2, without a pool.

    Args:
        operation: One of `lit_models.parameter_free.OPERATIONS`.
        options: What timm's ResNet takes.
    """
    shape = {"layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)}
    block_args = {"operation": operation}
    network = resnet(SpatialBottleneck, **{**shape, "block_args": block_args, **options})
    return small_stem(network, stride=2)  # type: ignore[no-any-return]


def vit(**options: Any) -> VisionTransformer:
    """Return timm's ViT without a class token: the mean of the normalised tokens is classified."""
    return VisionTransformer(
        **{"class_token": False, "global_pool": "avg", "fc_norm": False, **options}
    )


def vit_max(**options: Any) -> nn.Module:
    """Return the same ViT with an eff-layer for the attention of every second block.

    Options are those of timm's ViT, `img_size` (of any proportions) and `dynamic_img_size` too.
    """
    return parameter_free_network(vit(**options), where="attention")


_RESNET = {"pool_size": (7, 7), "first_conv": "conv1", "classifier": "fc"}
_CIFAR_RESNET = {**_RESNET, **CIFAR_FACTS}
_MNIST_RESNET = {
    **_RESNET,
    "num_classes": 10,
    "input_size": (1, 28, 28),
    "pool_size": (2, 2),
    "mean": (0.0,),
    "std": (1.0,),
}
_VIT = {"fixed_input_size": True, "first_conv": "patch_embed.proj", "classifier": "head"}
_CIFAR_VIT = {**_VIT, **{key: CIFAR_FACTS[key] for key in CIFAR_FACTS if key != "pool_size"}}
_PIT = {"first_conv": "patch_embed.conv", "classifier": "head"}

# How timm's factory extracts features; as its own entry points say it.
_FEATURES: dict[Callable[..., Any], dict[str, Any]] = {
    vit: {"out_indices": 3, "feature_cls": "getter"},
    vit_max: {"out_indices": 3, "feature_cls": "getter"},
    PoolingTransformerMax: {"out_indices": (0, 1, 2), "feature_cls": "hook"},
}


def _register(name: str, build: Callable[..., Any], facts: dict[str, Any], **settings: Any) -> None:
    register_network(name, build, facts, _FEATURES.get(build), **settings)


for _name, _block in (
    ("pf_baseline_resnet50", Bottleneck),
    ("resnet50_max", MaxBottleneck),
    ("resnet50_hybrid", EffBottleneck),
):
    _register(_name, resnet, _RESNET, block=_block)
    # This suite's own, for 32x32 images.
    _register(f"{_name}_cifar", small_resnet, _CIFAR_RESNET, block=_block)

for _size, _dim, _heads in (("ti", 192, 3), ("s", 384, 6), ("b", 768, 12)):
    _register(f"vit_{_size}_max", vit_max, _VIT, embed_dim=_dim, num_heads=_heads)

_register("pit_ti_max", PoolingTransformerMax, _PIT, base_dims=(32, 32, 32), heads=(2, 4, 8))
_register("pit_s_max", PoolingTransformerMax, _PIT)
_register(
    "pit_b_max",
    PoolingTransformerMax,
    _PIT,
    patch_size=14,
    stride=7,
    base_dims=(64, 64, 64),
    depth=(3, 6, 4),
    heads=(4, 8, 16),
)

# This suite's own.
_register("bottlenecks_mnist", tiny_resnet, _MNIST_RESNET)
_SMALL_VIT = {"patch_size": 4, "embed_dim": 192, "depth": 12, "num_heads": 3}
_register("vit_ti_cifar", vit, _CIFAR_VIT, **_SMALL_VIT)
_register("vit_ti_max_cifar", vit_max, _CIFAR_VIT, **_SMALL_VIT)
