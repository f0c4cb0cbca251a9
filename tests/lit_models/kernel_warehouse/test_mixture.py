import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from lit_models.kernel_warehouse import cost
from lit_models.kernel_warehouse.geometry import Geometry
from lit_models.kernel_warehouse.mixture import (
    FORMS,
    assemble_kernels,
    grouped,
    mix,
    per_sample_convolution,
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
    assert case[3].pointwise
    torch.testing.assert_close(grouped(*case), per_sample_convolution(*case))


@settings(deadline=None, max_examples=40)
@given(cases())
def test_whatever_form_is_chosen_equals_the_papers(case: Case) -> None:
    torch.testing.assert_close(mix(*case), per_sample_convolution(*case))


def with_gradients(form: Any, case: Case, dtype: torch.dtype) -> list[Tensor]:
    """The output, and the gradients of input, coefficients and cells for an arbitrary loss."""
    tensors = [tensor.to(dtype).requires_grad_() for tensor in case[:3]]
    y = form(*tensors, case[3])
    towards = torch.linspace(-1, 2, y.numel(), dtype=dtype).view(y.shape)
    return [y, *torch.autograd.grad(y, tensors, towards)]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@settings(deadline=None, max_examples=40)
@given(case=cases(), few_rows=st.sampled_from([0, cost.FEW_ROWS]))
def test_all_forms_and_their_gradients_equal_the_papers(
    name: Any, dtype: torch.dtype, tolerance: float, case: Case, few_rows: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "FEW_ROWS", few_rows)
        ours = with_gradients(FORMS[name], case, dtype)
    papers = with_gradients(per_sample_convolution, case, torch.float64)
    for our, paper in zip(ours, papers, strict=True):
        # Sums of many products: rounding is relative to the largest, not to what they come to.
        atol = tolerance * max(paper.abs().max().item(), 1)
        torch.testing.assert_close(our.double(), paper, rtol=tolerance, atol=atol)


@pytest.mark.parametrize("form", [per_sample_convolution, shifted_products, *FORMS.values()])
def test_gradients_reach_input_coefficients_and_cells(form: Any) -> None:
    torch.manual_seed(0)
    geometry = Geometry((4, 2, 3, 3), (2, 1), (1, 0), (1, 2), 1, 9, 2, 1)
    leaves = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 2, 6, 5), (2, 18, 3), (3, 2, 2, 1, 1))
    ]
    assert torch.autograd.gradcheck(lambda *args: form(*args, geometry), leaves)


@pytest.mark.parametrize("name", FORMS)
def test_gradients_have_gradients(name: Any) -> None:
    torch.manual_seed(0)
    geometry = Geometry((2, 2, 2), (1,), (1,), (1,), 1, 2, 1, 1)
    leaves = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 2, 3), (2, 2, 2), (2, 2, 2, 1))
    ]
    assert torch.autograd.gradgradcheck(lambda *args: FORMS[name](*args, geometry), leaves)


@pytest.mark.parametrize("name", FORMS)
def test_channels_last_inputs_give_channels_last_outputs_of_equal_values(name: Any) -> None:
    torch.manual_seed(0)
    geometry = Geometry((4, 6, 3, 3), (2, 2), (1, 1), (1, 1), 1, 9, 2, 3)
    x, coefficients, cells = (
        torch.randn(2, 6, 7, 7),
        torch.randn(2, 54, 5),
        torch.randn(5, 2, 2, 1, 1),
    )
    expected = per_sample_convolution(x, coefficients, cells, geometry)
    y = FORMS[name](x.to(memory_format=torch.channels_last), coefficients, cells, geometry)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-4)
    assert FORMS[name](x, coefficients, cells, geometry).is_contiguous()


def test_kernels_have_the_shape_of_the_layer() -> None:
    geometry = Geometry((6, 4, 3, 3), (1, 1), (1, 1), (1, 1), 1, 9, 3, 2)
    kernels = assemble_kernels(torch.randn(5, 54, 7), torch.randn(7, 2, 2, 1, 1), geometry)
    assert kernels.shape == (5, 6, 4, 3, 3)
