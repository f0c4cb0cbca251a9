"""KernelWarehouse in place of convolutions and linear layers.

The operators of "KernelWarehouse: Rethinking the Design of Dynamic Convolution" (ICML 2024).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from lit_models.kernel_warehouse.attention import ContrastingAttention, Norm
from lit_models.kernel_warehouse.cost import FormName
from lit_models.kernel_warehouse.geometry import Geometry, Mixture
from lit_models.kernel_warehouse.mixture import FORMS, mix
from lit_models.kernel_warehouse.warehouse import Warehouse, borrow


@register_notrace_module  # for timm's feature extraction by torch.fx, which knows no batch size
class KWConv(nn.Module):
    """A convolution whose kernel each input assembles for itself from the cells of a warehouse.

    Use `KWConv1d`, `KWConv2d` or `KWConv3d`. Without a warehouse the layer has one of its own.

    Args:
        in_channels: As in `nn.Conv2d`, up to `bias`; padding is with zeros.
        out_channels: See above.
        kernel_size: See above.
        stride: See above.
        padding: See above.
        dilation: See above.
        groups: See above.
        bias: See above; it starts at 0.
        warehouse: What the layer draws from, made for it among others; None for its own.
        position: The layer's position among the kernels that the warehouse was made for. The layer
            at position 0 owns the warehouse.
        reduction: Hidden width of the attention as a part of `in_channels`; at least 16.
        norm: The attention's normalisation, "batch" or "layer".
        nonlocal_basis_ratio: Below 1, the attention to other layers' cells has a smaller basis.

    Raises:
        ValueError: If channels do not divide into the groups, or the warehouse was made for another
            kernel.
    """

    dimensions: ClassVar[int]
    mixture: Mixture = staticmethod(mix)
    """How coefficients, cells and input become the output; may be replaced for any layer."""
    warehouse: Warehouse

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        warehouse: Warehouse | None = None,
        position: int = 0,
        reduction: float = 1 / 16,
        norm: Norm = "batch",
        nonlocal_basis_ratio: float = 1.0,
    ) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups {groups} must divide in_channels {in_channels} and "
                f"out_channels {out_channels}"
            )
        kernel = (out_channels, in_channels // groups, *self._each(kernel_size))
        if warehouse is None:
            warehouse = Warehouse([kernel])
        shelf = warehouse.shelf(position, kernel)
        if position == 0:
            self.warehouse = warehouse
        else:
            borrow(self, "warehouse", warehouse)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = kernel[2:]
        self.stride = self._each(stride)
        self.padding = self._each(padding)
        self.dilation = self._each(dilation)
        self.geometry = Geometry(
            kernel,
            self.stride,
            self.padding,
            self.dilation,
            groups,
            shelf.groups_spatial,
            shelf.groups_out,
            shelf.groups_in,
        )
        self.attention = ContrastingAttention(
            in_channels,
            shelf,
            len(warehouse.cells),
            reduction=reduction,
            norm=norm,
            nonlocal_basis_ratio=nonlocal_basis_ratio,
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    @classmethod
    def in_place_of(cls, module: nn.Module, **options: Any) -> Self:
        """Return a layer of the geometry of a plain one: same channels, stride, bias and so on.

        Args:
            module: An `nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d` for the operator of its name.
            options: `warehouse`, `position` and the attention's settings.
        """
        assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        padding = numeric_padding(module)
        assert padding is not None
        return cls(
            module.in_channels,
            module.out_channels,
            module.kernel_size,
            module.stride,
            padding,
            module.dilation,
            module.groups,
            module.bias is not None,
            **options,
        )

    def reset_parameters(self) -> None:
        """Set the bias to 0; cells and attention have methods of their own."""
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of `x: (N, in, *spatial)`, `(N, out, *spatial)`.

        Raises:
            ValueError: If `x` has another number of axes.
        """
        if x.ndim != self.dimensions + 2:
            raise ValueError(
                f"{type(self).__name__} takes an input of {self.dimensions + 2} axes, "
                f"not of shape {tuple(x.shape)}"
            )
        pooled = x.mean(dim=tuple(range(2, x.ndim)), dtype=_at_least_float32(x.dtype))
        return self._convolve(x, pooled)

    def _convolve(self, x: Tensor, pooled: Tensor) -> Tensor:
        coefficients = self.attention(pooled, self.warehouse.temperature.value)
        y = self.mixture(x, coefficients, self.warehouse.cells, self.geometry)
        if self.bias is None:
            return y
        return y + self.bias.to(y.dtype).view(-1, *(1,) * self.dimensions)

    @classmethod
    def _each(cls, value: int | Sequence[int]) -> tuple[int, ...]:
        """Return one number for each spatial axis."""
        values = (value,) * cls.dimensions if isinstance(value, int) else tuple(value)
        if len(values) != cls.dimensions:
            raise ValueError(f"{cls.__name__} takes {cls.dimensions} numbers, not {values}")
        return values

    @property
    def weight(self) -> Tensor:
        """The cells, for those who ask a layer's weight for its device and data type."""
        return self.warehouse.cells

    def extra_repr(self) -> str:
        """Show the geometry and the layer's own cells."""
        shelf = self.attention.shelf
        last_cell = shelf.first_cell + shelf.num_cells - 1
        return (
            f"kernel={shelf.kernel}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, groups={self.groups}, "
            f"mixtures={shelf.mixtures}, own_cells={shelf.first_cell}..{last_cell}"
        )


class KWConv1d(KWConv):
    """`KWConv` over sequences `(N, C, L)`."""

    dimensions = 1


class KWConv2d(KWConv):
    """`KWConv` over images `(N, C, H, W)`."""

    dimensions = 2


class KWConv3d(KWConv):
    """`KWConv` over volumes `(N, C, D, H, W)`."""

    dimensions = 3


class KWLinear(KWConv1d):
    """A linear layer whose matrix each sample assembles from the cells of a warehouse.

    The matrix is a 1d kernel of size 1, and all positions between the batch axis and the channels
    are one sample's.

    Args:
        in_features: Channels of the input.
        out_features: Channels of the output.
        bias: Whether there is one.
        warehouse: As in `KWConv`, like all that follow.
        position: See `KWConv`.
        reduction: See `KWConv`.
        norm: See `KWConv`.
        nonlocal_basis_ratio: See `KWConv`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        warehouse: Warehouse | None = None,
        position: int = 0,
        reduction: float = 1 / 16,
        norm: Norm = "batch",
        nonlocal_basis_ratio: float = 1.0,
    ) -> None:
        super().__init__(
            in_features,
            out_features,
            kernel_size=1,
            bias=bias,
            warehouse=warehouse,
            position=position,
            reduction=reduction,
            norm=norm,
            nonlocal_basis_ratio=nonlocal_basis_ratio,
        )
        self.in_features, self.out_features = in_features, out_features

    @classmethod
    def in_place_of(cls, module: nn.Module, **options: Any) -> Self:
        """Return a layer of the geometry of an `nn.Linear`; see `KWConv.in_place_of`."""
        assert isinstance(module, nn.Linear)
        return cls(module.in_features, module.out_features, module.bias is not None, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(N, ..., out_features)` for `x: (N, ..., in_features)`."""
        positions = x.reshape(x.shape[0], -1, x.shape[-1])
        pooled = positions.mean(dim=1, dtype=_at_least_float32(x.dtype))
        y = self._convolve(positions.transpose(1, 2), pooled)
        return y.transpose(1, 2).reshape(*x.shape[:-1], y.shape[1])


def numeric_padding(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> tuple[int, ...] | None:
    """Return a convolution's padding in numbers, or None if it differs between the two sides."""
    if not isinstance(conv.padding, str):
        return conv.padding
    reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if conv.padding == "valid":
        return (0,) * len(reach)
    return None if any(total % 2 for total in reach) else tuple(total // 2 for total in reach)


def kernel_layers(network: nn.Module) -> Iterator[KWConv]:
    """Yield the KernelWarehouse layers of a network in the order of `modules()`."""
    return (module for module in network.modules() if isinstance(module, KWConv))


def set_mixture(network: nn.Module, form: FormName | Literal["auto"]) -> None:
    """Set how all KernelWarehouse layers of a network mix and apply their kernels.

    Args:
        network: Any network.
        form: "grouped", as in the papers, "kernel", "input", or "auto": for every layer what is the
            fastest. See `mix`.

    Raises:
        ValueError: If there is no such form.
    """
    if form not in ("auto", *FORMS):
        raise ValueError(f"mixture is {form!r}; it must be one of auto, {', '.join(FORMS)}")
    for layer in kernel_layers(network):
        layer.mixture = partial(mix, form=form)


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the data type in which to average many values of the type `dtype`."""
    return torch.promote_types(dtype, torch.float32)
