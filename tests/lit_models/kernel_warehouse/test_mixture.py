import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from lit_models.kernel_warehouse.mixture import (
    Geometry,
    assemble_kernels,
    mix,
    per_sample_convolution,
    pointwise_product,
    shifted_products,
)

Case = tuple[Tensor, Tensor, Tensor, Geometry]
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@st.composite
def cases(draw: Any, pointwise: bool = False) -> Case:
    axes = draw(st.integers(1, 3))
    groups = 1 if pointwise else draw(st.sampled_from([1, 2, 3]))
    groups_out, groups_in = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    cell = draw(st.integers(1, 3)) * groups, draw(st.integers(1, 3))
    size = tuple(1 if pointwise else draw(st.integers(1, 3)) for _ in range(axes))
    whole = draw(st.booleans())
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(axes))
    geometry = Geometry(
        kernel=(cell[0] * groups_out, cell[1] * groups_in, *size),
        stride=tuple(draw(st.integers(1, 2)) for _ in range(axes)),
        padding=tuple(0 if pointwise else draw(st.integers(0, 2)) for _ in range(axes)),
        dilation=dilation,
        groups=groups,
        groups_spatial=1 if whole else math.prod(size),
        groups_out=groups_out,
        groups_in=groups_in,
    )
    batch, num_cells = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    sides = [d * (k - 1) + draw(st.integers(1, 4)) for d, k in zip(dilation, size, strict=True)]
    torch.manual_seed(draw(st.integers(0, 99)))
    x = torch.randn(batch, groups * geometry.kernel[1], *sides, dtype=torch.float64)
    mixtures = geometry.groups_spatial * groups_out * groups_in
    coefficients = torch.randn(batch, mixtures, num_cells, dtype=torch.float64)
    cell_kernel = size if whole else (1,) * axes
    cells = torch.randn(num_cells, *cell, *cell_kernel, dtype=torch.float64)
    return x, coefficients, cells, geometry


def one_by_one(x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
    """Every sample by itself, its kernel put together piece by piece: the definition."""
    _, stride, padding, dilation, groups, groups_spatial, groups_out, groups_in = geometry
    size = geometry.kernel[2:]
    out, into = cells.shape[1:3]
    outputs = []
    for sample, weights in zip(x, coefficients, strict=True):
        kernel = torch.zeros(geometry.kernel, dtype=x.dtype).flatten(2)
        for s in range(groups_spatial):
            where = slice(None) if groups_spatial == 1 else slice(s, s + 1)
            for o in range(groups_out):
                for i in range(groups_in):
                    mixture = (s * groups_out + o) * groups_in + i
                    piece = sum(w * cell for w, cell in zip(weights[mixture], cells, strict=True))
                    rows, columns = slice(o * out, (o + 1) * out), slice(i * into, (i + 1) * into)
                    kernel[rows, columns, where] = piece.flatten(2)
        convolve = CONVOLUTIONS[len(size)]
        kernel = kernel.view(geometry.kernel)
        outputs.append(convolve(sample[None], kernel, None, stride, padding, dilation, groups))
    return torch.cat(outputs)


@settings(deadline=None, max_examples=60)
@given(cases())
def test_the_papers_form_mixes_and_convolves_each_sample(case: Case) -> None:
    torch.testing.assert_close(per_sample_convolution(*case), one_by_one(*case))


@settings(deadline=None, max_examples=60)
@given(cases())
def test_shifted_products_equal_the_papers_form(case: Case) -> None:
    torch.testing.assert_close(shifted_products(*case), per_sample_convolution(*case))


@settings(deadline=None, max_examples=40)
@given(cases(pointwise=True))
def test_the_pointwise_product_equals_the_papers_form(case: Case) -> None:
    torch.testing.assert_close(pointwise_product(*case), per_sample_convolution(*case))


@settings(deadline=None, max_examples=40)
@given(cases())
def test_whatever_form_is_chosen_equals_the_papers(case: Case) -> None:
    torch.testing.assert_close(mix(*case), per_sample_convolution(*case))


@pytest.mark.parametrize("form", [per_sample_convolution, shifted_products])
def test_gradients_reach_input_coefficients_and_cells(form: Any) -> None:
    torch.manual_seed(0)
    geometry = Geometry((4, 2, 3, 3), (2, 1), (1, 0), (1, 2), 2, 9, 2, 1)
    leaves = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 4, 6, 5), (2, 18, 3), (3, 2, 2, 1, 1))
    ]
    assert torch.autograd.gradcheck(lambda *args: form(*args, geometry), leaves)


def test_kernels_have_the_shape_of_the_layer() -> None:
    geometry = Geometry((6, 4, 3, 3), (1, 1), (1, 1), (1, 1), 1, 9, 3, 2)
    kernels = assemble_kernels(torch.randn(5, 54, 7), torch.randn(7, 2, 2, 1, 1), geometry)
    assert kernels.shape == (5, 6, 4, 3, 3)
