"""MobileNetV1: depthwise separable convolutions from stem to classifier.

"MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", arXiv
1704.04861, Table 1. The table prints stride 2 for the last depthwise layer, between maps of one
size; stride 1 is meant.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from timm.layers import ClassifierHead, ConvNormAct
from timm.models import checkpoint_seq
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from lit_models.backbones import CIFAR_FACTS
from lit_models.registry import register_network
from lit_models.resnext.depthwise_separable import DepthwiseSeparableConv2d, is_depthwise

# Any: timm's helpers have no types.
Block = Callable[..., Any]
# Output channels and stride of each layer; a stage ends where the next layer strides.
Stages = Sequence[Sequence[tuple[int, int]]]

STAGES: Stages = (
    ((64, 1),),
    ((128, 2), (128, 1)),
    ((256, 2), (256, 1)),
    ((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    ((1024, 2), (1024, 1)),
)
# Without the five layers between equal maps of 512 channels (Table 5).
SHALLOW_STAGES: Stages = (*STAGES[:3], ((512, 2),), STAGES[4])
# This suite's own. For 32x32 images the stem and the first two stages keep the size of the map.
SMALL_IMAGE_STAGES: Stages = (((64, 1), (128, 1), (128, 1)), *STAGES[2:])
TINY_STAGES: Stages = (((32, 1),), ((64, 2),), ((64, 1),))


def full_convolution(groups: int = 1) -> Block:
    """Return what makes a standard 3x3 convolution, a norm and a ReLU in a layer's place (Table 4).

    Args:
        groups: Groups of channels that are convolved apart.
    """
    return partial(ConvNormAct, kernel_size=3, groups=groups)


class MobileNetV1(nn.Module):
    """A 3x3 stem, layers of one kind and a classifier, with timm's interface.

    How the authors' weights start is not published. Here convolutions start normal with variance
    2 / (kernel area x output channels of a group), norms at 1 and 0, the classifier's bias at 0.

    Args:
        num_classes: Number of classes; 0 for none.
        in_chans: Channels of the images.
        global_pool: timm's name of the pooling before the classifier.
        width_multiplier: Factor of all numbers of channels, alpha; the products are rounded down.
        stages: Output channels and stride of every layer.
        stem: Output channels and stride of the stem.
        block: Makes a layer of `(in_channels, out_channels, stride=stride)`.
        drop_rate: Dropout before the classifier.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        width_multiplier: float = 1.0,
        stages: Stages = STAGES,
        stem: tuple[int, int] = (32, 2),
        block: Block = DepthwiseSeparableConv2d,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        channels, reduction = int(width_multiplier * stem[0]), stem[1]
        self.stem = ConvNormAct(in_chans, channels, 3, stride=reduction)
        self.stages = nn.Sequential()
        self.feature_info: list[dict[str, Any]] = []
        for number, layers in enumerate(stages):
            stage = nn.Sequential()
            for width, stride in layers:
                before, channels = channels, int(width_multiplier * width)
                stage.append(block(before, channels, stride=stride))
                reduction *= stride
            self.stages.append(stage)
            self.feature_info.append(
                {"num_chs": channels, "reduction": reduction, "module": f"stages.{number}"}
            )
        self.num_features = channels
        self.head = ClassifierHead(
            channels, num_classes, pool_type=global_pool, drop_rate=drop_rate
        )
        self.head_hidden_size = self.head.num_features
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # torch takes no notice of groups in a fan-out.
                std = (2 * module.groups / module.weight[:, 0].numel()) ** 0.5
                nn.init.normal_(module.weight, std=std)
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(N, num_classes)` of `x: (N, C, H, W)`."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map `(N, num_features, H', W')` of `x: (N, C, H, W)`."""
        x = self.stem(x)
        for stage in self.stages:
            x = self._through(stage, x)
        return x

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The last map of `x: (N, C, H, W)` and those of the stages `indices`, as timm has it.

        Args:
            x: Images.
            indices: Numbers of stages, or how many of the last ones; None for all.
            norm: Of no effect: every map has gone through a norm.
            stop_early: Compute no stage behind the last that is asked for.
            output_fmt: NCHW alone.
            intermediates_only: Return the maps of the stages alone.

        Raises:
            ValueError: Another format is asked for.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt={output_fmt!r} must be 'NCHW'")
        taken, last = feature_take_indices(len(self.stages), indices)
        x = self.stem(x)
        maps = []
        for number, stage in enumerate(self.stages[: last + 1] if stop_early else self.stages):
            x = self._through(stage, x)
            if number in taken:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of a map, or with `pre_logits` what the classifier gets."""
        y: Tensor = self.head(x, pre_logits=pre_logits)
        return y

    def get_classifier(self) -> nn.Module:
        """The classifier."""
        fc: nn.Module = self.head.fc
        return fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier, and the pooling if one is named."""
        like = next(self.parameters())
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)
        self.head.to(like.device, like.dtype).train(self.training)
        self.head_hidden_size = self.head.num_features

    def no_weight_decay(self) -> set[str]:
        """Names of the depthwise kernels, which the authors decay little or not at all."""
        return {
            f"{name}.weight"
            for name, module in self.named_modules()
            if isinstance(module, nn.Conv2d) and is_depthwise(module)
        }

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """How timm groups parameters for layer decay."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" + ("" if coarse else r"\.(\d+)")}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute activations a second time in the backward pass, and keep fewer."""
        self.grad_checkpointing = enable

    def _through(self, stage: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = checkpoint_seq(stage, x) if self.grad_checkpointing else stage(x)
        return y


def _register(name: str, facts: dict[str, Any] | None = None, **settings: Any) -> None:
    names = {"first_conv": "stem.conv", "classifier": "head.fc", "pool_size": (7, 7)}
    features = {
        "flatten_sequential": True,
        "out_indices": tuple(range(len(settings.get("stages", STAGES)))),
    }
    register_network(name, MobileNetV1, {**names, **(facts or {})}, features, **settings)


for _percent in (100, 75, 50, 25):
    _register(f"mobilenet_v1_{_percent:03}", width_multiplier=_percent / 100)
_register("mobilenet_v1_full_convolution", block=full_convolution())
_register("mobilenet_v1_shallow", stages=SHALLOW_STAGES)
_register(
    "mobilenet_v1_050_cifar",
    {**CIFAR_FACTS, "pool_size": (4, 4)},
    width_multiplier=0.5,
    stem=(32, 1),
    stages=SMALL_IMAGE_STAGES,
)

# The kinds of convolution in one tiny network for 28x28 digits.
_DIGITS = {"num_classes": 10, "input_size": (1, 28, 28), "mean": (0.0,), "std": (1.0,)}
for _kind, _block in (
    ("full_convolution", full_convolution()),
    ("grouped_convolution", full_convolution(groups=8)),
    ("depthwise_separable", DepthwiseSeparableConv2d),
):
    _register(f"tiny_{_kind}", _DIGITS, block=_block, stem=(16, 2), stages=TINY_STAGES)
