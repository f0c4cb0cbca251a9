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
BATCH_BYTES = 2**23
"""From it on the papers' form, with all kernels in one tensor, waits for memory as long as for its
arithmetic, and keeps more for the backward pass than all else."""
MULTIPLY_ADDS = {"one sample": 1.0, "small batch": 1.5, "large batch": 2.0, "heavy batch": 4.0}
"""How many times the multiply-adds of the papers' form still leave the mixing of inputs faster. One
sample's convolution is a plain one, so it takes fewer; a batch is large from `BATCH_BYTES` on, and
heavy where memory costs the time (`PER_NUMBER`) and kernels cannot be mixed for few samples each
without going through more cells than there are kernels."""
PER_NUMBER = 128
"""With more multiply-adds for each number of a kernel, M + P, memory is not what costs the time."""
CHUNK_BYTES = 2**24
"""How much of its intermediates a form holds at a time: as fast as more, and below what malloc maps
anew each time."""
BLOCK_BYTES = 2**22
"""How many of the cells are laid side by side at a time, for the same reasons."""
FEW_ROWS = 16
"""With so few mixed inputs, laying cells side by side takes as long as applying them."""


def fastest_form(x: Tensor, cells: Tensor, geometry: Geometry) -> FormName:
    """Return the form for an input `(N, in, *spatial)` and cells `(cells, c_out, c_in, ...)`."""
    if geometry.groups > 1 or x.is_meta:
        return "grouped"
    batch, kernel_bytes = len(x), math.prod(geometry.kernel) * cells.element_size()
    positions, num_cells = math.prod(geometry.maps(x.shape[2:])), len(cells)
    pieces = geometry.groups_spatial * geometry.groups_in
    ratio = num_cells * positions / (pieces * (num_cells + positions))
    large = batch > 1 and batch * kernel_bytes >= BATCH_BYTES
    size = "large batch" if large else "one sample" if batch < 2 else "small batch"
    kernels = False
    if large and num_cells + positions <= PER_NUMBER:
        mixtures = pieces * geometry.groups_out
        kernels = num_cells <= mixtures * min(batch, samples_at_a_time(kernel_bytes))
        size = "large batch" if kernels else "heavy batch"
    if kernel_bytes >= KERNEL_BYTES and ratio < MULTIPLY_ADDS[size]:
        return "input"
    return "kernel" if kernels else "grouped"


def samples_at_a_time(bytes_per_sample: int) -> int:
    """Return how many samples' intermediates are small enough to be held together."""
    return max(1, CHUNK_BYTES // max(bytes_per_sample, 1))


def cells_at_a_time(bytes_per_cell: int) -> int:
    """Return how many cells are few enough to be laid side by side."""
    return max(1, BLOCK_BYTES // max(bytes_per_cell, 1))


def few(rows: int) -> bool:
    """Whether so few mixed inputs are better multiplied by the cells one by one, where they are."""
    return rows <= FEW_ROWS
