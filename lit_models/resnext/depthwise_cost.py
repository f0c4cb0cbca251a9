"""What depthwise separable convolution saves, as formulas and in a network.

"MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", arXiv
1704.04861, equations 2 to 7 and Tables 2 and 3. Symbols there: kernel K, input channels M, output
channels N, map F, width multiplier alpha, resolution multiplier rho.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from lit_models.resnext.depthwise_separable import is_depthwise


@dataclass(frozen=True)
class ConvolutionShape:
    """A convolution that keeps the map's size.

    Attributes:
        kernel_size: Side of the kernel, K.
        in_channels: Channels of the input, M.
        out_channels: Channels of the output, N.
        map_size: Side of the map, F.
    """

    kernel_size: int
    in_channels: int
    out_channels: int
    map_size: int

    def scaled(self, width_multiplier: float = 1.0, resolution_multiplier: float = 1.0) -> Self:
        """Return the shape with thinner layers (alpha M, alpha N) and smaller maps (rho F).

        Channels are rounded down, as the networks' are, and maps to the nearest side.
        """
        return type(self)(
            self.kernel_size,
            int(width_multiplier * self.in_channels),
            int(width_multiplier * self.out_channels),
            round(resolution_multiplier * self.map_size),
        )

    @property
    def standard_parameters(self) -> int:
        """Weights of the standard convolution: K^2 M N."""
        return self.kernel_size**2 * self.in_channels * self.out_channels

    @property
    def separable_parameters(self) -> int:
        """Weights of the depthwise and the 1x1 convolution: K^2 M + M N."""
        return self.in_channels * (self.kernel_size**2 + self.out_channels)

    @property
    def standard_multiply_adds(self) -> int:
        """K^2 M N F^2, equation 2."""
        return self.standard_parameters * self.map_size**2

    @property
    def separable_multiply_adds(self) -> int:
        """K^2 M F^2 + M N F^2, equation 5."""
        return self.separable_parameters * self.map_size**2

    @property
    def ratio(self) -> float:
        """Separable cost relative to the standard one: 1/N + 1/K^2."""
        return 1 / self.out_channels + 1 / self.kernel_size**2


def row_values(variant: Mapping[str, Any]) -> dict[str, float]:
    """Columns of a row of `depthwise_separable_cost`, computed: millions.

    Args:
        variant: The row's variant: `operator` (standard or depthwise_separable), `k`, `m`, `n` and
            `f`, and `alpha` and `rho` where they are not 1.
    """
    shape = ConvolutionShape(variant["k"], variant["m"], variant["n"], variant["f"])
    shape = shape.scaled(variant.get("alpha", 1.0), variant.get("rho", 1.0))
    if variant["operator"] == "standard":
        multiply_adds, parameters = shape.standard_multiply_adds, shape.standard_parameters
    else:
        multiply_adds, parameters = shape.separable_multiply_adds, shape.separable_parameters
    return {"mult_adds": multiply_adds / 1e6, "params": parameters / 1e6}


@dataclass
class LayerCost:
    """What all layers of one type cost.

    Attributes:
        multiply_adds: Multiply-adds for one image.
        weights: Weights, without biases and norms.
    """

    multiply_adds: int = 0
    weights: int = 0


def costs_by_layer_type(
    network: nn.Module, input_size: tuple[int, int, int]
) -> dict[str, LayerCost]:
    """Costs of a network's convolutions and linear layers, summed over layers of one type.

    Types are `conv_1x1`, `conv_3x3` (or another side), `conv_dw_3x3` for depthwise ones, and
    `fully_connected`.

    Args:
        network: Takes `x: (N, C, H, W)`; put into evaluation mode. Works on the meta device.
        input_size: `(C, H, W)` of the image.
    """
    costs: dict[str, LayerCost] = {}

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        cost = costs.setdefault(_layer_type(layer), LayerCost())
        cost.weights += layer.weight.numel()
        positions = output[0, 0].numel()
        cost.multiply_adds += layer.weight.numel() * positions

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *input_size, device=layers[0].weight.device))
    finally:
        for hook in hooks:
            hook.remove()
    return costs


def _layer_type(layer: nn.Conv2d | nn.Linear) -> str:
    if isinstance(layer, nn.Linear):
        return "fully_connected"
    side = "x".join(map(str, layer.kernel_size))
    return f"conv_dw_{side}" if is_depthwise(layer) else f"conv_{side}"
