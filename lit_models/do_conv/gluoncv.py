"""GluonCV's networks for ImageNet, which DO-Conv's ImageNet table is about.

They are those of release 0.6.0 and start as its training script lets them start: MXNet's MSRAPrelu.
timm has most of them but for some bits, so each is timm's network with those bits changed.
"""

from collections import OrderedDict
from typing import Any, NamedTuple

import timm
import torch
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn

from lit_models.registry import register_network

# Any: timm's classes have no types.
Network = Any


class Version(NamedTuple):
    """How a version of GluonCV's ResNet differs from timm's, which is its v1b.

    Attributes:
        stride_first: A bottleneck's stride is in its first 1x1 convolution, not in the 3x3.
        pointwise_bias: The two 1x1 convolutions of a bottleneck have biases.
        preactivated: Norm and ReLU come before each convolution: a norm without scale and offset on
            the image, none on the shortcut's convolution, one more with its ReLU at the end.
        shortcut: Whether the input of a block is added to its output.
    """

    stride_first: bool = False
    pointwise_bias: bool = False
    preactivated: bool = False
    shortcut: bool = True


VERSIONS = {
    "v1": Version(stride_first=True, pointwise_bias=True),
    "v1b": Version(),
    "v2": Version(preactivated=True),
    "plain": Version(shortcut=False),
}


def resnet(
    version: str,
    depth: int,
    *,
    last_gamma: bool = False,
    num_classes: int = 1000,
    in_chans: int = 3,
    global_pool: str = "avg",
    output_stride: int = 32,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Network:
    """Return GluonCV's ResNet of a version and depth, or the plain network of the same layers.

    Args:
        version: `v1`, `v1b`, `v2` or `plain`: how DO-Conv's Plain-18, whose definition was not
            published, is read here.
        depth: 18, 34, 50, 101 or 152.
        last_gamma: Start the scale of each residual branch's last norm at 0. In GluonCV the basic
            blocks of v1b (depths 18 and 34) ignore this option. In v2, where a ReLU follows, the
            branches could then never learn; no published network does that.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Number of channels of an image.
        global_pool: timm's name of the pooling before the classifier.
        output_stride: Stride of the last features, 8, 16 or 32.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth of the last block; linear from 0 at the first.

    Raises:
        ValueError: A plain network has no residual branches to start at 0 or to drop.
    """
    rules = VERSIONS[version]
    if not rules.shortcut and (last_gamma or drop_path_rate):
        raise ValueError(
            "a plain network has no residual branches; leave out last_gamma and drop_path_rate"
        )
    network: Network = timm.create_model(
        f"resnet{depth}",
        zero_init_last=False,
        num_classes=num_classes,
        in_chans=in_chans,
        global_pool=global_pool,
        output_stride=output_stride,
        drop_rate=drop_rate,
        drop_path_rate=drop_path_rate,
    )
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for index, block in enumerate(stage):
            stage[index] = _changed(block, rules)
    if rules.preactivated:
        image_norm = nn.BatchNorm2d(in_chans, affine=False)
        network.conv1 = nn.Sequential(OrderedDict(bn=image_norm, conv=network.conv1))
        # Features end with the last stage, and so does the classifier's input.
        final_norm = nn.BatchNorm2d(network.num_features)
        final = nn.Sequential(OrderedDict(bn=final_norm, act=nn.ReLU(inplace=True)))
        network.layer4.add_module("final", final)
    if last_gamma:
        network.init_weights(zero_init_last=True)
    return start_as_mxnet(network)


class PreActivatedBlock(nn.Module):
    """A residual block with norm and ReLU before each convolution (He et al. 2016).

    Added to its output is its input `x: (N, C, H, W)` or, where the shape changes, a 1x1
    convolution of the activated input.

    Args:
        block: timm's block, whose convolutions, shortcut and drop path this one takes over.
    """

    def __init__(self, block: Network) -> None:
        super().__init__()
        first, *others = _convolutions(block)
        self.bn1 = nn.BatchNorm2d(first.in_channels)
        self.act1 = nn.ReLU(inplace=True)
        self.branch = nn.Sequential(OrderedDict(conv1=first))
        for number, conv in enumerate(others, start=2):
            self.branch.add_module(f"bn{number}", nn.BatchNorm2d(conv.in_channels))
            self.branch.add_module(f"act{number}", nn.ReLU(inplace=True))
            self.branch.add_module(f"conv{number}", conv)
        self.downsample = None if block.downsample is None else block.downsample[0]
        self.drop_path = nn.Identity() if block.drop_path is None else block.drop_path

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)` to `(N, C', H', W')`."""
        activated = self.act1(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(activated)
        output: Tensor = shortcut + self.drop_path(self.branch(activated))
        return output

    def zero_init_last(self) -> None:
        """Start the last norm's scale at 0."""
        *_, norm, _, _ = self.branch
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.zeros_(norm.weight)


def resnext50_32x4d(last_gamma: bool = False, **options: Any) -> Network:
    """Return timm's ResNeXt-50 (32x4d) with GluonCV's initialisation.

    Args:
        last_gamma: Start the scale of each residual branch's last norm at 0. GluonCV's option of
            this name has the opposite effect here: its blocks have the condition inverted.
        options: timm's.
    """
    return start_as_mxnet(
        timm.create_model("resnext50_32x4d", zero_init_last=last_gamma, **options)
    )


def mobilenet_v1(**options: Any) -> Network:
    """Return timm's MobileNet with ReLU for ReLU6 and GluonCV's initialisation."""
    return start_as_mxnet(timm.create_model("mobilenetv1_100", act_layer="relu", **options))


class BiaslessMobileNetV2(EfficientNet):
    """A MobileNetV2 whose classifier has no bias, whatever the number of classes."""

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; 0 classes for none."""
        super().reset_classifier(num_classes, global_pool)
        if num_classes > 0:
            self.classifier.register_parameter("bias", None)


def mobilenet_v2(**options: Any) -> Network:
    """Return timm's MobileNetV2 without bias in the classifier, with GluonCV's initialisation."""
    network: Network = timm.create_model("mobilenetv2_100", **options)
    # timm's factory builds no subclasses.
    network.__class__ = BiaslessMobileNetV2
    network.reset_classifier(network.num_classes)
    return start_as_mxnet(network)


def mobilenet_v3_large(**options: Any) -> Network:
    """Return timm's MobileNetV3-Large without bias in the last hidden layer, GluonCV's start.

    GluonCV's `last_gamma` has no effect on this network, so there is none here. Its dropout before
    the classifier, 0.2, is the option `drop_rate`.
    """
    return start_as_mxnet(timm.create_model("mobilenetv3_large_100", head_bias=False, **options))


def start_as_mxnet(network: Network) -> Network:
    """Draw all kernels and matrices as MXNet's `MSRAPrelu` does, biases 0; norms stay as they are.

    Normal with the variance 2 / (1 + 0.25^2) / mean(fan_in, fan_out), where both fans are counted
    on the tensor's shape alone, also for grouped convolutions.
    """
    gain = nn.init.calculate_gain("leaky_relu", 0.25)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(module.weight, gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def _changed(block: Network, rules: Version) -> nn.Module:
    """Return timm's block as the version has it."""
    pointwise = [conv for conv in _convolutions(block) if conv.kernel_size == (1, 1)]
    if rules.stride_first and pointwise:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    if rules.pointwise_bias:
        for conv in pointwise:
            conv.bias = nn.Parameter(torch.zeros(conv.out_channels))
    if rules.preactivated:
        return PreActivatedBlock(block)
    if not rules.shortcut:
        block.downsample = None
        return nn.Sequential(OrderedDict(block.named_children()))
    changed: nn.Module = block
    return changed


def _convolutions(block: Network) -> list[nn.Conv2d]:
    """The convolutions of timm's block, the shortcut's aside, in their order."""
    return [module for module in block.children() if isinstance(module, nn.Conv2d)]


# What GluonCV subtracts and divides by, its pixels from 0 to 255.
_FACTS: dict[str, Any] = {
    "pool_size": (7, 7),
    "mean": (123.68 / 255, 116.779 / 255, 103.939 / 255),
    "std": (58.393 / 255, 57.12 / 255, 57.375 / 255),
    "crop_pct": 0.875,
    "interpolation": "bilinear",
}
_RESNET = {**_FACTS, "first_conv": "conv1", "classifier": "fc"}
_MOBILENET = {**_FACTS, "first_conv": "conv_stem", "classifier": "classifier"}
# How timm's factory extracts features; as its own entry points say it for these networks.
_GETTER = {"feature_cls": "getter"}

for _depth in (18, 34, 50, 101, 152):
    for _version, _first in (("v1", "conv1"), ("v1b", "conv1"), ("v2", "conv1.conv")):
        _facts = {**_RESNET, "first_conv": _first}
        _name = f"gluoncv_resnet{_depth}_{_version}"
        register_network(_name, resnet, _facts, version=_version, depth=_depth)
register_network("gluoncv_plain18", resnet, _RESNET, version="plain", depth=18)
register_network("gluoncv_resnext50_32x4d", resnext50_32x4d, _RESNET)
register_network("gluoncv_mobilenet_v1", mobilenet_v1, _MOBILENET, _GETTER)
register_network("gluoncv_mobilenet_v2", mobilenet_v2, _MOBILENET, _GETTER)
register_network("gluoncv_mobilenet_v3_large", mobilenet_v3_large, _MOBILENET, _GETTER)
