from collections.abc import Callable
from itertools import product as pairs

import pytest
import torch
from torch import Tensor

from lit_models.kernel_warehouse.products import product, product_with_gradients, products


def layouts(rows: int, columns: int, dtype: torch.dtype) -> list[Tensor]:
    """The same matrix: row by row, column by column, and as a part of wider ones."""
    generator = torch.Generator().manual_seed(rows)
    matrix = torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(dtype)
    wide = torch.cat([torch.zeros_like(matrix), matrix], 1)[:, columns:]
    tall = torch.cat([torch.zeros_like(matrix.t()), matrix.t()], 1)[:, rows:].t()
    return [matrix, matrix.t().contiguous().t(), wide, tall]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_product_is_that_of_torch_in_every_layout(dtype: torch.dtype) -> None:
    for left, right in pairs(layouts(5, 7, dtype), layouts(7, 3, dtype)):
        y = product(left, right)
        assert y.dtype == dtype
        torch.testing.assert_close(y, left.contiguous() @ right.contiguous())


@pytest.mark.parametrize("size", [3, 200])  # both sides of where oneDNN is worth its call
@pytest.mark.parametrize("lefts", [1, 2])
def test_products_of_batches_are_those_of_torch(size: int, lefts: int) -> None:
    left = torch.randn(4, lefts, size, size).mT
    right = torch.randn(4, 2, size, size).mT
    torch.testing.assert_close(products(left, right), left @ right, atol=1e-4, rtol=1e-4)


def test_a_product_has_gradients_and_gradients_of_these() -> None:
    def gradients(multiply: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        torch.manual_seed(0)
        left, right = torch.randn(5, 7, requires_grad=True), torch.randn(7, 3, requires_grad=True)
        y = multiply(left, right).tanh().sum()
        first = torch.autograd.grad(y, [left, right], create_graph=True)
        total = first[0].square().sum() + first[1].square().sum()
        return [*first, *torch.autograd.grad(total, [left, right])]

    torch.testing.assert_close(gradients(product_with_gradients), gradients(torch.matmul))


def test_under_autocast_a_product_is_computed_in_its_type() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        y = product_with_gradients(torch.randn(5, 7), torch.randn(7, 3))
    assert y.dtype == torch.bfloat16
