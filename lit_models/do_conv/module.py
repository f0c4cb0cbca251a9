"""Training with DO-Conv: networks whose convolutions are over-parameterised."""

from typing import Any

from torch import nn

from lit_models.classifier import ImageClassifier
from lit_models.detector import Detector
from lit_models.do_conv.folding import Initialisation, fuse, over_parameterise
from lit_models.network_training import NetworkTraining
from lit_models.surgery import named_like


class WithDOConv(NetworkTraining):
    """DO-Conv in place of every convolution of the backbone (DO-Conv, TIP 2022).

    Args:
        backbone: Name of the plain network, any of `timm.list_models()` (ours included).
        depth_multiplier: The paper's D_mul, at least the kernel area; None is the kernel area.
        include: Patterns of module names, such as `layer4.*`: all other convolutions stay plain.
        pointwise: Whether 1x1 convolutions have a D too, which the paper's have not.
        initialisation: What the paper's depthwise kernel is at the start: the `identity`, as in the
            paper, or `random`.
        task: Everything else that the task's module takes.
    """

    def __init__(
        self,
        backbone: str,
        depth_multiplier: int | None = None,
        include: list[str] | None = None,
        pointwise: bool = False,
        initialisation: Initialisation = "identity",
        **task: Any,
    ) -> None:
        self.include = include
        self.do_conv_options: dict[str, Any] = {
            "depth_multiplier": depth_multiplier,
            "pointwise": pointwise,
            "initialisation": initialisation,
        }
        super().__init__(backbone, **task)

    def build_network(self, backbone: str, **options: Any) -> nn.Module:
        """Return the backbone with DO-Conv in place of its convolutions."""
        network = super().build_network(backbone, **options)
        include = None if self.include is None else named_like(network, self.include)
        return over_parameterise(network, include=include, **self.do_conv_options)

    def deployed(self) -> nn.Module:
        """Return a copy of the network with every DO-Conv folded into a plain convolution."""
        return fuse(self.network).network


class DOConvClassifier(WithDOConv, ImageClassifier):
    """An `ImageClassifier` with DO-Conv; takes what both take."""


class DOConvDetector(WithDOConv, Detector):
    """A `Detector` with DO-Conv in its backbone; takes what both take."""
