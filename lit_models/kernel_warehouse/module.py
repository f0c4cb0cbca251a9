"""Training with KernelWarehouse: a classifier whose kernels are mixtures of shared cells."""

from typing import Any, Literal

from torch import nn

from lit_models.classifier import ImageClassifier
from lit_models.kernel_warehouse.generic import warehouse_network
from lit_models.kernel_warehouse.layers import kernel_layers


class KWClassifier(ImageClassifier):
    """An `ImageClassifier` with KernelWarehouse (ICML 2024).

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
        classifier: Everything else that `ImageClassifier` takes.

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
        **classifier: Any,
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
        }
        super().__init__(backbone, **classifier)

    def build_network(self, backbone: str, **options: Any) -> nn.Module:
        """Return the papers' network, or the backbone with kernels from warehouses."""
        network = super().build_network(backbone, **options)
        given = {name: value for name, value in self.plan_options.items() if value is not None}
        if not any(True for _ in kernel_layers(network)):
            return warehouse_network(network, **given)
        if given:
            raise ValueError(
                f"{backbone} is a KernelWarehouse network with a plan of its own; give "
                f"{', '.join(given)} in backbone_args, or name a plain backbone"
            )
        return network
