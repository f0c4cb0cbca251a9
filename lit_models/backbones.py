"""Plain networks that no library has and no paper of the suite owns."""

from typing import Any

import timm
from timm.models import build_model_with_cfg
from torch import nn

from lit_models.registry import register_network

CIFAR_FACTS: dict[str, Any] = {
    "num_classes": 10,
    "input_size": (3, 32, 32),
    "pool_size": (4, 4),
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
    "crop_pct": 1.0,
}


def resnet18_cifar(**options: Any) -> nn.Module:
    """Timm's ResNet-18 with the stem for 32x32 images: 3x3 at stride 1, and no max-pool.

    The stem for 224x224 images would shrink CIFAR's to a single position in the last stage.
    """
    # timm's factory wraps feature extractors, too.
    network: nn.Module = build_model_with_cfg(_resnet18_cifar, "resnet18_cifar", False, **options)
    return network


def _resnet18_cifar(**options: Any) -> Any:
    network: Any = timm.create_model("resnet18", **options)
    stem = network.conv1
    network.conv1 = nn.Conv2d(stem.in_channels, stem.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    for stage in network.feature_info:
        # The stem divides by 1 and not by 2, and its pool by 1 and not by 2 again.
        stage["reduction"] //= 2 if stage["module"] == "act1" else 4
    return network


register_network(
    "resnet18_cifar", resnet18_cifar, **CIFAR_FACTS, first_conv="conv1", classifier="fc"
)
