"""Training with KernelWarehouse: networks whose kernels are mixtures of shared cells."""

from typing import Any, Literal

from torch import nn

from lit_models.classifier import ImageClassifier
from lit_models.detector import Detector
from lit_models.kernel_warehouse.attention import AttentionFunction, set_attention_function
from lit_models.kernel_warehouse.generic import warehouse_network
from lit_models.kernel_warehouse.layers import kernel_layers, set_mixture
from lit_models.network_training import NetworkTraining
from lit_models.surgery import named_like


class WithKernelWarehouse(NetworkTraining):
    """A backbone with KernelWarehouse (ICML 2024).

    The papers' networks (`kw1x_resnet18` ...) are taken as they are. Any other backbone becomes a
    KernelWarehouse network by a generic plan, which the options below shape.

    Args:
        backbone: Name of the network, any of `timm.list_models()` (ours included).
        cell_num_ratio: Cells per mixture in every warehouse: an integer or 1/n; null is 1.
        parameter_ratio: Given instead, the wished number of parameters as a part of the backbone's.
        sharing: Whether the layers of a `stage` share warehouses, those of a `block`, or `none`.
        reduction: Hidden width of the attentions as a part of the input channels; null is 1/16.
        cell_inplane_ratio: Input channels of a cell as a part of their greatest common divisor.
        cell_outplane_ratio: Output channels of a cell, likewise.
        nonlocal_basis_ratio: Below 1, a smaller basis for the attention to other layers' cells.
        norm: Normalisation in the attentions; null follows the backbone.
        include: Patterns of module names, such as `layer4.*`: all other layers stay static.
        attention_function: What makes an attention's weights of its logits: `contrasting` is the
            paper's; `softmax`, `sigmoid` and `plain` (the logits themselves) are there to compare.
        mixture: How kernels are mixed and applied, `grouped` as in the papers, `kernel` or `input`;
            `auto` takes what is fastest for each layer. The results differ by rounding only.
        task: Everything else that the task's module takes.

    Raises:
        ValueError: An option is out of its range, or shapes a plan that the backbone has already.
    """

    def __init__(
        self,
        backbone: str,
        cell_num_ratio: float | None = None,
        parameter_ratio: float | None = None,
        sharing: Literal["stage", "block", "none"] | None = None,
        reduction: float | None = None,
        cell_inplane_ratio: float | None = None,
        cell_outplane_ratio: float | None = None,
        nonlocal_basis_ratio: float | None = None,
        norm: Literal["batch", "layer"] | None = None,
        include: list[str] | None = None,
        attention_function: AttentionFunction = "contrasting",
        mixture: Literal["auto", "grouped", "kernel", "input"] = "auto",
        **task: Any,
    ) -> None:
        self.plan_options: dict[str, Any] = {
            "cell_num_ratio": cell_num_ratio,
            "parameter_ratio": parameter_ratio,
            "sharing": sharing,
            "reduction": reduction,
            "cell_inplane_ratio": cell_inplane_ratio,
            "cell_outplane_ratio": cell_outplane_ratio,
            "nonlocal_basis_ratio": nonlocal_basis_ratio,
            "norm": norm,
            "include": include,
        }
        self.attention_function = attention_function
        self.mixture = mixture
        super().__init__(backbone, **task)

    def build_network(self, backbone: str, **options: Any) -> nn.Module:
        """Return the papers' network, or the backbone with kernels from warehouses."""
        network = super().build_network(backbone, **options)
        given = {name: value for name, value in self.plan_options.items() if value is not None}
        if not any(True for _ in kernel_layers(network)):
            if "include" in given:
                given["include"] = named_like(network, given["include"])
            network = warehouse_network(network, **given)
        elif given:
            raise ValueError(
                f"{backbone} is a KernelWarehouse network with a plan of its own; give "
                f"{', '.join(given)} in backbone_args, or name a plain backbone"
            )
        set_mixture(network, self.mixture)
        set_attention_function(network, self.attention_function)
        return network

    def parameters_of_no_layer(self, network: nn.Module) -> list[nn.Parameter]:
        """The cells: as in the authors' code, they belong to the network and not to its layers."""
        warehouses = dict.fromkeys(layer.warehouse for layer in kernel_layers(network))
        return [warehouse.cells for warehouse in warehouses]


class KWClassifier(WithKernelWarehouse, ImageClassifier):
    """An `ImageClassifier` with KernelWarehouse; takes what both take."""


class KWDetector(WithKernelWarehouse, Detector):
    """A `Detector` with KernelWarehouse in its backbone; takes what both take."""
