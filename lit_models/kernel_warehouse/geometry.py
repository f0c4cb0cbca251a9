"""What a mixture of kernels needs to know besides its tensors."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Geometry(NamedTuple):
    """What a convolution needs besides its input and its kernel.

    Attributes:
        kernel: `(out, in / groups, *kernel_size)`.
        stride: One number for each spatial axis, as `padding` (with zeros) and `dilation`.
        padding: See `stride`.
        dilation: See `stride`.
        groups: Groups of channels, as in `nn.Conv2d`.
        groups_spatial: Pieces along the spatial axes into which the kernel is cut, row by row.
        groups_out: Pieces along the output channels.
        groups_in: Pieces along the input channels.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    groups_spatial: int
    groups_out: int
    groups_in: int

    def maps(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Return the size of the output's maps for an input of maps of `size`."""
        axes = zip(size, self.kernel[2:], self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)

    @property
    def pointwise(self) -> bool:
        """Whether the kernel is an ungrouped 1x1 without padding: it may have a stride."""
        return self.groups == 1 and max(self.kernel[2:]) == 1 and max(self.padding) == 0


Mixture = Callable[[Tensor, Tensor, Tensor, Geometry], Tensor]
"""Input `(N, in, *spatial)`, coefficients `(N, mixtures, cells)`, cells `(cells, c_out, c_in,
*cell_kernel)` and a geometry to the output `(N, out, *spatial)`, without bias. The mixture of
spatial piece s, output piece o and input piece i is `(s * groups_out + o) * groups_in + i`."""
