"""ResNeXt and the ResNets beside it, on timm's `ResNet`, started as the authors start them.

"Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, arXiv 1611.05431, and
their code, github.com/facebookresearch/ResNeXt. A network is called by its depth, its cardinality C
(number of paths of a block) and its bottleneck width d (channels of a path in the first stage):
`resnext_50_32x4d`. With cardinality 1 it is a ResNet: `resnet_50_1x64d`. timm's `resnext50_32x4d`
and `resnet50` are the same networks with other first weights: their last norms start at 0.
"""

from typing import Any

from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn

from lit_models.backbones import CIFAR_FACTS, small_stem
from lit_models.registry import register_network

# Any: timm's classes have no types.
Network = Any

# Blocks in the stages, whose three convolutions make the depth with the stem and the classifier.
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
IMAGENET_FACTS: dict[str, Any] = {
    "pool_size": (7, 7),
    "interpolation": "bicubic",
    "first_conv": "conv1",
    "classifier": "fc",
}
SMALL_IMAGE_FACTS: dict[str, Any] = {
    **CIFAR_FACTS,
    "pool_size": (8, 8),
    "first_conv": "conv1",
    "classifier": "fc",
}
# Stem and three stages; timm's ResNet has a fourth, which is empty here.
SMALL_IMAGE_FEATURES = {"out_indices": (0, 1, 2, 3)}


class PlainBottleneck(Bottleneck):
    """timm's bottleneck without a residual connection: what the block adds is all it returns.

    For the paper's ablation (section 5.1). There is no projection shortcut either.

    Args:
        *args: Those of timm's `Bottleneck`.
        **options: Likewise.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.downsample = None

    def forward(self, x: Tensor) -> Tensor:
        """Return `(N, C', H', W')` of `x: (N, C, H, W)`."""
        block: Network = self
        x = block.act1(block.bn1(block.conv1(x)))
        x = block.aa(block.act2(block.drop_block(block.bn2(block.conv2(x)))))
        x = block.bn3(block.conv3(x))
        if block.se is not None:
            x = block.se(x)
        return block.act3(x)  # type: ignore[no-any-return]


def resnext(residual: bool = True, **options: Any) -> Network:
    """ResNeXt for 224x224 images; with cardinality 1 it is ResNet.

    Convolutions start normal with variance 2 / (kernel area x output channels), all norms at 1
    and 0, the classifier as torch starts it but for its bias, which is 0.

    Args:
        residual: Whether the blocks have residual connections.
        options: Those of timm's `ResNet`: `layers`, `cardinality`, `base_width` ...
    """
    block = Bottleneck if residual else PlainBottleneck
    network: Network = ResNet(**{"block": block, "zero_init_last": False, **options})
    if isinstance(network.fc, nn.Linear):
        nn.init.zeros_(network.fc.bias)
    return network


def small_image_resnext(**options: Any) -> Network:
    """ResNeXt for 32x32 images: a 3x3 stem, three stages of three blocks, 29 layers (appendix A).

    The first weights are those of `resnext`.

    Args:
        options: Those of `resnext`.
    """
    options = {"layers": (3, 3, 3), "channels": (64, 128, 256), **options}
    network = small_stem(resnext(**options))
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    # timm's forward has four stages.
    network.layer4 = nn.Sequential()
    return network


def _name(depth: int, cardinality: int, width: int) -> str:
    family = "resnet" if cardinality == 1 else "resnext"
    return f"{family}_{depth}_{cardinality}x{width}d"


# Tables 3 and 4 of the paper: cardinality and width at the complexity of ResNet.
_EQUALLY_COMPLEX = ((1, 64), (2, 40), (4, 24), (8, 14), (32, 4))
# Table 4: twice the complexity of ResNet-101.
_DOUBLED = ((1, 100), (2, 64), (64, 4))
for _depth, _settings in ((50, _EQUALLY_COMPLEX), (101, (*_EQUALLY_COMPLEX, *_DOUBLED))):
    for _cardinality, _width in _settings:
        register_network(
            _name(_depth, _cardinality, _width),
            resnext,
            IMAGENET_FACTS,
            layers=BLOCKS[_depth],
            cardinality=_cardinality,
            base_width=_width,
        )

# The figure of appendix A: cardinality grows at width 64, or width at cardinality 1. The figure's
# widths are not in the text: these are the ones with the parameters of 2, 4, 8 and 16 x 64d.
_MORE_PATHS = ((1, 64), (2, 64), (4, 64), (8, 64), (16, 64))
_WIDER = ((1, 99), (1, 148), (1, 219), (1, 320))
for _cardinality, _width in (*_MORE_PATHS, *_WIDER):
    register_network(
        _name(29, _cardinality, _width),
        small_image_resnext,
        SMALL_IMAGE_FACTS,
        SMALL_IMAGE_FEATURES,
        cardinality=_cardinality,
        base_width=_width,
    )

# This suite's own: a quarter of the channels, for a CPU, in blocks of one complexity.
for _cardinality, _width in ((1, 16), (4, 6), (16, 2)):
    register_network(
        f"{_name(29, _cardinality, _width)}_small",
        small_image_resnext,
        SMALL_IMAGE_FACTS,
        SMALL_IMAGE_FEATURES,
        channels=(16, 32, 64),
        cardinality=_cardinality,
        # timm scales the width with the channels of a stage, 64 of which are 1.
        base_width=4 * _width,
    )
