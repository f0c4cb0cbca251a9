"""Which form computes a mixture the fastest: counted from shapes, so the same on every rank.

All forms do the same work in different orders. With M cells in the warehouse, a kernel cut into
S spatial, O output and I input pieces, P positions of the output and cells of q numbers for each of
c output channels, one sample costs so many multiply-adds:

- grouped and kernel: `S O I M q c` to mix its kernel, then `S O I P q c` to apply it;
- input: `O S I M P q` to mix its inputs, then `O M P q c` to apply the cells.
"""

import math
from typing import Literal

from torch import Tensor

from lit_models.kernel_warehouse.geometry import Geometry

FormName = Literal["grouped", "kernel", "input"]

KERNEL_BYTES = 2**19
"""A kernel of fewer bytes stays in the caches: mixing it costs next to nothing."""
MULTIPLY_ADDS = 1.9
"""How many times the multiply-adds of the papers' form are made up for by large products."""
CHUNK_BYTES = 28 * 2**20
"""How much of its intermediates a form holds at a time: below what malloc maps anew each time."""


def fastest_form(x: Tensor, cells: Tensor, geometry: Geometry) -> FormName:
    """Return the form for an input `(N, in, *spatial)` and cells `(cells, c_out, c_in, ...)`."""
    if geometry.groups > 1 or x.is_meta:
        return "grouped"
    kernel_bytes = 4 * math.prod(geometry.kernel)
    if kernel_bytes < KERNEL_BYTES or x.shape[0] < 2:
        return "grouped"
    positions, num_cells = math.prod(geometry.maps(x.shape[2:])), len(cells)
    pieces = geometry.groups_spatial * geometry.groups_in
    ratio = num_cells * positions / (pieces * (num_cells + positions))
    if ratio < MULTIPLY_ADDS:
        return "input"
    return "kernel" if kernel_bytes >= 2 * KERNEL_BYTES else "grouped"


def samples_at_a_time(bytes_per_sample: int) -> int:
    """Return how many samples' intermediates are small enough to be held together."""
    return max(1, CHUNK_BYTES // max(bytes_per_sample, 1))
