"""Plain networks that no library has and no paper of the suite owns."""

from typing import Any

import timm
from torch import nn

from lit_models.registry import register_network

# Any: timm's classes have no types.
Network = Any

CIFAR_FACTS: dict[str, Any] = {
    "num_classes": 10,
    "input_size": (3, 32, 32),
    "pool_size": (4, 4),
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
    "crop_pct": 1.0,
}


def resnet18_cifar(**options: Any) -> Network:
    """Timm's ResNet-18 with the stem for 32x32 images; see `small_stem`.

    The stem for 224x224 images would shrink CIFAR's to a single position in the last stage.
    """
    network = small_stem(timm.create_model("resnet18", **options))
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return network


def small_stem(network: Network, stride: int = 1) -> Network:
    """Give timm's ResNet a 3x3 convolution and no pool for its stem, in place.

    The convolution starts as torch draws it.

    Args:
        network: A ResNet with timm's usual stem, a 7x7 convolution and a max-pool.
        stride: Stride of the convolution.
    """
    stem = network.conv1
    conv = nn.Conv2d(stem.in_channels, stem.out_channels, 3, stride, padding=1, bias=False)
    network.conv1, network.maxpool = conv.to(stem.weight), nn.Identity()
    for stage in network.feature_info:
        # The usual stem divides a side by 2, and by 4 with its pool.
        stage["reduction"] = stage["reduction"] * stride // (2 if stage["module"] == "act1" else 4)
    return network


register_network(
    "resnet18_cifar", resnet18_cifar, {**CIFAR_FACTS, "first_conv": "conv1", "classifier": "fc"}
)
