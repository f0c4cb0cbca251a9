"""Training without spatial parameters: networks with parameter-free operations."""

from typing import Any, Literal

from torch import nn

from lit_models.classifier import ImageClassifier
from lit_models.detector import Detector
from lit_models.network_training import NetworkTraining
from lit_models.parameter_free.generic import parameter_free_network
from lit_models.parameter_free.layers import PARAMETER_FREE_BLOCKS


class WithParameterFreeOperations(NetworkTraining):
    """A backbone with parameter-free operations (ICLR 2022).

    The paper's networks (`resnet50_hybrid`, `vit_s_max` ...) are taken as they are. In any other
    backbone, the operation takes the place of spatial layers as the options below say.

    Args:
        backbone: Name of the network, any of `timm.list_models()` (ours included).
        operation: What stands there; null is `max_pool`.
        where: In the place of `convolutions` that keep the channels, or of the `attention` of every
            second block; null is the attention where there is any, else the convolutions.
        alternate: False for the attention of every block; null is true.
        task: Everything else that the task's module takes.

    Raises:
        ValueError: Nothing can be replaced, or options are given for a network of the paper.
    """

    def __init__(
        self,
        backbone: str,
        operation: Literal["max_pool", "avg_pool", "identity"] | None = None,
        where: Literal["convolutions", "attention"] | None = None,
        alternate: bool | None = None,
        **task: Any,
    ) -> None:
        self.operation_options: dict[str, Any] = {
            "operation": operation,
            "where": where,
            "alternate": alternate,
        }
        super().__init__(backbone, **task)

    def build_network(self, backbone: str, **options: Any) -> nn.Module:
        """Return the paper's network, or the backbone with parameter-free operations."""
        network = super().build_network(backbone, **options)
        given = {name: value for name, value in self.operation_options.items() if value is not None}
        if not any(isinstance(module, PARAMETER_FREE_BLOCKS) for module in network.modules()):
            return parameter_free_network(network, **given)
        if given:
            raise ValueError(
                f"{backbone} has parameter-free operations of its own; give "
                f"{', '.join(given)} in backbone_args, or name a plain backbone"
            )
        return network


class ParameterFreeClassifier(WithParameterFreeOperations, ImageClassifier):
    """An `ImageClassifier` with parameter-free operations; takes what both take."""


class ParameterFreeDetector(WithParameterFreeOperations, Detector):
    """A `Detector` with parameter-free operations in its backbone; takes what both take."""
