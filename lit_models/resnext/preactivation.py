"""The pre-activation networks that the paper's tables quote, on timm's `ResNetV2`.

ResNet-200: "Identity Mappings in Deep Residual Networks", ECCV 2016, arXiv 1603.05027.
Wide ResNet: "Wide Residual Networks", BMVC 2016, arXiv 1605.07146.
"""

from typing import Any

from timm.layers import BatchNormAct2d, ClassifierHead, create_conv2d
from timm.models.resnetv2 import ResNetV2
from torch import nn

from lit_models.registry import register_network
from lit_models.resnext.networks import IMAGENET_FACTS, SMALL_IMAGE_FACTS, Network

_FEATURES = {"flatten_sequential": True}


def resnet_200(**options: Any) -> Network:
    """Pre-activation ResNet-200 for 224x224 images, 64,666,152 parameters.

    As its paper has it: the first norm and ReLU stand right behind the stem's convolution, the
    first block of a stage has one pre-activation for both branches, and the shortcut's convolution
    has no norm. The stride is in the 3x3 convolution, as in the ResNeXt authors' code base.

    Args:
        options: Those of timm's `ResNetV2`.
    """
    network = _resnet_v2(**{"layers": (3, 24, 36, 3), **options})
    first = network.stages[0].blocks[0]
    stem = network.stem
    network.stem = nn.Sequential()
    for name, module in (("conv", stem.conv), ("norm", first.norm1), ("pool", stem.pool)):
        network.stem.add_module(name, module)
    first.norm1 = nn.Identity()
    # The map before the pool is the stem's feature, here after its norm.
    network.stem_feat_idx = 1
    network.feature_info[0]["module"] = "stem.norm"
    return network


def wide_resnet(depth: int = 28, widen_factor: int = 10, **options: Any) -> Network:
    """Wide ResNet for 32x32 images: three stages of basic blocks, 36.5 M parameters for 28-10.

    Args:
        depth: Layers with weights but for the shortcuts: 4 more than a multiple of 6.
        widen_factor: Channels of the stages in 16, 32 and 64.
        options: Those of timm's `ResNetV2`.

    Raises:
        ValueError: There is no such depth.
    """
    if depth % 6 != 4:
        raise ValueError(f"depth={depth} is not 4 more than a multiple of 6")
    network = _resnet_v2(
        **{
            "layers": [(depth - 4) // 6] * 3,
            "channels": [widen_factor * channels for channels in (16, 32, 64)],
            "stem_chs": 16,
            "basic": True,
            "bottle_ratio": 1.0,
            **options,
        }
    )
    stem = network.stem.conv
    conv = nn.Conv2d(stem.in_channels, stem.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    network.stem = nn.Sequential()
    network.stem.add_module("conv", conv)
    for stage in network.feature_info:
        # The stem divides by 1 and not by 2, and it has no pool that would divide by 2 again.
        stage["reduction"] //= 2 if stage["module"] == "stem.conv" else 4
    return network


def _resnet_v2(**options: Any) -> Network:
    network: Network = ResNetV2(
        **{"conv_layer": create_conv2d, "norm_layer": BatchNormAct2d, **options}
    )
    # timm's classifier is a 1x1 convolution, started otherwise.
    network.head = ClassifierHead(
        network.num_features,
        network.num_classes,
        pool_type=options.get("global_pool", "avg"),
        drop_rate=network.drop_rate,
    )
    if isinstance(network.head.fc, nn.Linear):
        nn.init.zeros_(network.head.fc.bias)
    return network


_NAMES = {"first_conv": "stem.conv", "classifier": "head.fc"}
register_network("resnet_200_1x64d", resnet_200, {**IMAGENET_FACTS, **_NAMES}, _FEATURES)
register_network(
    "wide_resnet_28_10",
    wide_resnet,
    {**SMALL_IMAGE_FACTS, **_NAMES},
    {**_FEATURES, "out_indices": (0, 1, 2, 3)},
)
