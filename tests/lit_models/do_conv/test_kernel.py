import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lit_models.do_conv.kernel import fold, times_identity, unfold


def identity(area: int, depth_multiplier: int) -> Tensor:
    matrix = torch.zeros(area, depth_multiplier)
    for column in range(depth_multiplier // area * area):
        matrix[column % area, column] = 1
    return matrix


@settings(deadline=None, max_examples=40)
@given(
    groups=st.integers(1, 3),
    in_per_group=st.integers(1, 3),
    out_per_group=st.integers(1, 3),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    surplus=st.integers(0, 12),
    seed=st.integers(0, 99),
)
def test_the_folded_kernel_is_that_of_the_paper_with_the_authors_pairing(
    groups: int,
    in_per_group: int,
    out_per_group: int,
    height: int,
    width: int,
    surplus: int,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    area = height * width
    depth_multiplier = area + surplus
    W = torch.randn(  # noqa: N806
        groups * out_per_group, in_per_group, depth_multiplier, generator=generator
    )
    D = torch.randn(  # noqa: N806
        groups * in_per_group, area, depth_multiplier, generator=generator
    )
    kernel = fold(W, D, (height, width))
    assert kernel.is_contiguous()

    for o in range(W.shape[0]):
        for c in range(in_per_group):
            paired = D[(o % groups) * in_per_group + c] + identity(area, depth_multiplier)
            expected = (paired @ W[o, c]).reshape(height, width)
            torch.testing.assert_close(kernel[o, c], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth_multiplier", [9, 12, 17, 18, 20, 27])
def test_unfolding_is_undone_by_folding(depth_multiplier: int) -> None:
    kernel = torch.randn(4, 3, 3, 3)
    W = unfold(kernel, depth_multiplier)  # noqa: N806
    assert W.shape == (4, 3, depth_multiplier)
    D = torch.zeros(3, 9, depth_multiplier)  # noqa: N806
    torch.testing.assert_close(fold(W, D, (3, 3)), kernel)


def test_unfolding_into_the_kernel_area_is_exact() -> None:
    kernel = torch.randn(4, 3, 3, 3)
    assert torch.equal(fold(unfold(kernel, 9), torch.zeros(3, 9, 9), (3, 3)), kernel)


def test_copies_of_the_kernel_differ_and_no_column_is_left_empty() -> None:
    torch.manual_seed(0)
    W = unfold(torch.randn(4, 3, 3, 3), 20)  # noqa: N806
    assert not torch.isclose(W[..., :9], W[..., 9:18]).any()
    assert (W != 0).all()


def test_the_gradient_of_every_column_of_d_differs_after_unfolding() -> None:
    torch.manual_seed(0)
    W = unfold(torch.randn(4, 3, 3, 3), 20)  # noqa: N806
    D = torch.zeros(3, 9, 20, requires_grad=True)  # noqa: N806
    fold(W, D, (3, 3)).pow(2).sum().backward()
    assert D.grad is not None
    columns = D.grad.flatten(0, 1).T
    assert (columns.abs().sum(1) > 0).all()
    assert len(torch.unique(columns, dim=0)) == 20


@pytest.mark.parametrize("depth_multiplier", [4, 5, 8, 11])
def test_the_product_with_the_identity_is_that_with_the_identity_matrix(
    depth_multiplier: int,
) -> None:
    W = torch.randn(3, 2, depth_multiplier)  # noqa: N806
    torch.testing.assert_close(times_identity(W, 4), W @ identity(4, depth_multiplier).T)


def test_small_values_of_d_survive_in_half_precision() -> None:
    W = torch.ones(1, 1, 9, dtype=torch.bfloat16)  # noqa: N806
    D = torch.full((1, 9, 9), 1e-3, dtype=torch.bfloat16)  # noqa: N806
    # 1 + 1e-3 would round to 1 and leave the other eight columns only.
    assert fold(W, D, (3, 3)).float().mean().item() == pytest.approx(1.009, abs=4e-3)
