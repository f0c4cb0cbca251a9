"""The layer study: bottlenecks that differ in their spatial operation alone, for 32x32 images.

The paper compares operations in a single bottleneck and in several, with varied channels and depth.
Its text on them could not be read, so stem, widths and depths are this suite's own.
"""

from collections.abc import Sequence
from typing import Any

from timm.models.resnet import downsample_conv
from torch import Tensor, nn

from lit_models.backbones import CIFAR_FACTS
from lit_models.parameter_free.headed import HeadedNetwork
from lit_models.parameter_free.layers import SpatialBottleneck
from lit_models.parameter_free.operations import Operation
from lit_models.registry import register_network

# Of timm's bottleneck: how many times wider it is outside than inside.
EXPANSION: int = SpatialBottleneck.expansion


class BottleneckStack(HeadedNetwork):
    """A 3x3 stem and bottlenecks in stages, each twice as wide and half as large as the last.

    The first bottleneck of every stage but the first strides at its spatial operation; its shortcut
    is a strided pointwise convolution. So with a parameter-free operation the stem holds the
    only trained spatial kernel.

    Args:
        operation: One of `lit_models.parameter_free.OPERATIONS`.
        layers: Bottlenecks of each stage.
        width: Inner channels of the first stage; outside, a bottleneck has four times as many.
        stem_stride: Stride of the stem.
        num_classes: Number of classes, 0 for no classifier.
        in_chans: Channels of the image.
        global_pool: How the last maps are pooled, as in timm; empty for not at all.
        drop_rate: Dropout before the classifier.

    Raises:
        ValueError: If there is no such operation, or a stage without bottlenecks.
    """

    def __init__(
        self,
        operation: Operation = "conv",
        layers: Sequence[int] = (1,),
        width: int = 32,
        stem_stride: int = 1,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if not layers or min(layers) < 1:
            raise ValueError(f"layers is {list(layers)}; every stage needs a bottleneck")
        channels = EXPANSION * width
        self.conv1 = nn.Conv2d(in_chans, channels, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = nn.ReLU(inplace=True)
        self.feature_info: list[dict[str, Any]] = []
        reduction = stem_stride
        for stage, depth in enumerate(layers):
            stride = 1 if stage == 0 else 2
            inner, reduction = width * 2**stage, reduction * stride
            self.add_module(f"layer{stage + 1}", _stage(channels, inner, depth, stride, operation))
            channels = EXPANSION * inner
            info = {"num_chs": channels, "reduction": reduction, "module": f"layer{stage + 1}"}
            self.feature_info.append(info)
        self.add_head(channels, num_classes, global_pool, drop_rate)

    def forward_features(self, x: Tensor) -> Tensor:
        """Last maps `(N, C, h, w)` of `x: (N, in_chans, H, W)`."""
        x = self.act1(self.bn1(self.conv1(x)))
        for info in self.feature_info:
            x = self.get_submodule(info["module"])(x)
        return x


def _stage(
    channels: int, inner: int, depth: int, stride: int, operation: Operation
) -> nn.Sequential:
    blocks = []
    for block in range(depth):
        step, outside = (stride if block == 0 else 1), EXPANSION * inner
        shortcut = None
        if step > 1 or channels != outside:
            shortcut = downsample_conv(channels, outside, kernel_size=1, stride=step)
        blocks.append(SpatialBottleneck(channels, inner, step, shortcut, operation=operation))
        channels = outside
    return nn.Sequential(*blocks)


_FACTS = {**CIFAR_FACTS, "first_conv": "conv1", "classifier": "head.fc"}
_LAST = {"out_indices": (0,)}
register_network(
    "single_bottleneck_cifar", BottleneckStack, {**_FACTS, "pool_size": (32, 32)}, _LAST
)
register_network(
    "multiple_bottlenecks_cifar",
    BottleneckStack,
    {**_FACTS, "pool_size": (8, 8)},
    {"out_indices": (0, 1, 2)},
    layers=(2, 2, 2),
    width=16,
)
