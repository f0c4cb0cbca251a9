"""Training with DO-Conv: a classifier whose convolutions are over-parameterised."""

from typing import Any

from torch import nn

from lit_models.classifier import ImageClassifier
from lit_models.do_conv.folding import fuse, over_parameterise


class DOConvClassifier(ImageClassifier):
    """An `ImageClassifier` with DO-Conv in place of every convolution (DO-Conv, TIP 2022).

    Args:
        backbone: Name of the plain network, any of `timm.list_models()` (ours included).
        depth_multiplier: The paper's D_mul, at least the kernel area; None is the kernel area.
        classifier: Everything else that `ImageClassifier` takes.
    """

    def __init__(
        self, backbone: str, depth_multiplier: int | None = None, **classifier: Any
    ) -> None:
        self.depth_multiplier = depth_multiplier
        super().__init__(backbone, **classifier)

    def build_network(self, backbone: str, **options: Any) -> nn.Module:
        """Return the backbone with DO-Conv in place of its convolutions."""
        network = super().build_network(backbone, **options)
        return over_parameterise(network, depth_multiplier=self.depth_multiplier)

    def deployed(self) -> nn.Module:
        """Return a copy of the network with every DO-Conv folded into a plain convolution."""
        return fuse(self.network).network
