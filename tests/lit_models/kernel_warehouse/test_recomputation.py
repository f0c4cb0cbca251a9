from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lit_models.kernel_warehouse import cost
from lit_models.kernel_warehouse.geometry import Geometry
from lit_models.kernel_warehouse.input_mixing import InputMixing
from lit_models.kernel_warehouse.kernel_mixing import KernelMixing
from lit_models.kernel_warehouse.mixture import FORMS, grouped
from lit_models.kernel_warehouse.recomputation import recomputed

GEOMETRY = Geometry((8, 4, 3, 3), (2, 1), (1, 1), (1, 1), 1, 9, 2, 2)
FAST = ["kernel", "input"]


@pytest.fixture
def tensors() -> list[Tensor]:
    torch.manual_seed(0)
    shapes = ((5, 4, 6, 7), (5, 36, 3), (3, 4, 2, 1, 1))
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def gradients(y: Tensor, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(y.square().sum(), tensors)


@pytest.mark.parametrize("form", [InputMixing(), KernelMixing()])
@pytest.mark.parametrize("samples", [1, 2, 5, 9])
def test_it_does_not_matter_how_many_samples_are_computed_at_a_time(
    form: Any, samples: int, tensors: list[Tensor]
) -> None:
    expected, y = grouped(*tensors, GEOMETRY), recomputed(form, *tensors, GEOMETRY, samples)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(gradients(y, tensors), gradients(expected, tensors))


@pytest.mark.parametrize("few_rows", [0, 2**30])
def test_it_does_not_matter_how_many_rows_are_few(
    few_rows: int, tensors: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "FEW_ROWS", few_rows)
    expected, y = grouped(*tensors, GEOMETRY), recomputed(InputMixing(), *tensors, GEOMETRY)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(gradients(y, tensors), gradients(expected, tensors))


@pytest.mark.parametrize("at_a_time", [1, 2, 3])
def test_it_does_not_matter_how_many_cells_are_laid_side_by_side_at_a_time(
    at_a_time: int, tensors: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "FEW_ROWS", 0)
    monkeypatch.setattr(cost, "BLOCK_BYTES", at_a_time * tensors[2][0].nbytes)
    expected, y = grouped(*tensors, GEOMETRY), recomputed(InputMixing(), *tensors, GEOMETRY)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(gradients(y, tensors), gradients(expected, tensors))


@pytest.mark.parametrize("form", [InputMixing(), KernelMixing()])
def test_gradients_of_many_chunks_are_summed_in_the_cells_precision(form: Any) -> None:
    x, coefficients = torch.ones(512, 4, 3, 3), torch.ones(512, 36, 3)
    cells = torch.ones(3, 4, 2, 1, 1, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = recomputed(form, x, coefficients, cells, GEOMETRY, samples=1)
    of_ones = torch.autograd.grad(y.sum(), cells)[0]
    # Each of the 512 parts is a whole number that bfloat16 has; their sum is not.
    expected = torch.autograd.grad(grouped(x, coefficients, cells, GEOMETRY).sum(), cells)[0]
    torch.testing.assert_close(of_ones, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)])
def test_gradients_may_be_wanted_of_some_only(
    name: Any, wanted: tuple[int, ...], tensors: list[Tensor]
) -> None:
    every = gradients(grouped(*tensors, GEOMETRY), tensors)
    some = [t.detach().requires_grad_(i in wanted) for i, t in enumerate(tensors)]
    found = gradients(FORMS[name](*some, GEOMETRY), [some[i] for i in wanted])
    torch.testing.assert_close(found, tuple(every[i] for i in wanted))


@pytest.mark.parametrize("name", FAST)
def test_only_what_goes_in_is_kept_for_the_backward_pass(name: Any, tensors: list[Tensor]) -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        FORMS[name](*tensors, GEOMETRY)
    memory = {tensor.untyped_storage().data_ptr() for tensor in kept}
    assert memory == {tensor.untyped_storage().data_ptr() for tensor in tensors}


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_leaves_gradients_unchanged(
    name: Any, reentrant: bool, tensors: list[Tensor]
) -> None:
    y = checkpoint(FORMS[name], *tensors, GEOMETRY, use_reentrant=reentrant)
    expected = torch.autograd.grad(grouped(*tensors, GEOMETRY).sum(), tensors)
    y.sum().backward()
    torch.testing.assert_close([tensor.grad for tensor in tensors], list(expected))


@pytest.mark.parametrize("name", FAST)
def test_autocast_computes_in_its_type_and_gives_gradients_in_the_parameters(name: Any) -> None:
    torch.manual_seed(0)
    shapes = ((5, 4, 6, 7), (5, 36, 3), (3, 4, 2, 1, 1))
    tensors = [torch.randn(shape, requires_grad=True) for shape in shapes]
    expected = grouped(*tensors, GEOMETRY)
    with torch.autocast("cpu", torch.bfloat16):
        y = FORMS[name](*tensors, GEOMETRY)
    assert y.dtype == torch.bfloat16
    scale = expected.abs().max().item()
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.03 * scale)
    found = torch.autograd.grad(y.float().sum(), tensors)
    assert {gradient.dtype for gradient in found} == {torch.float32}
    for ours, theirs in zip(found, torch.autograd.grad(expected.sum(), tensors), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.03 * theirs.abs().max().item())


@pytest.mark.parametrize("name", FAST)
def test_a_backward_pass_inside_autocast_stays_in_the_type_of_the_forward_pass(
    name: Any, tensors: list[Tensor]
) -> None:
    single = [tensor.detach().float().requires_grad_() for tensor in tensors]
    y = FORMS[name](*single, GEOMETRY)
    outside = torch.autograd.grad(y.sum(), single, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        inside = torch.autograd.grad(y.sum(), single)
    assert all(torch.equal(one, two) for one, two in zip(outside, inside, strict=True))


@pytest.mark.parametrize("name", FAST)
def test_a_form_compiles_in_one_graph_with_gradients(name: Any, tensors: list[Tensor]) -> None:
    compiled = torch.compile(FORMS[name], backend="aot_eager", fullgraph=True)
    y, expected = compiled(*tensors, GEOMETRY), grouped(*tensors, GEOMETRY)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(gradients(y, tensors), gradients(expected, tensors))


@pytest.mark.parametrize("name", FAST)
def test_function_transforms_go_through_a_form(name: Any, tensors: list[Tensor]) -> None:
    x, coefficients, cells = (tensor.detach() for tensor in tensors)

    def loss(cells: Tensor, x: Tensor, coefficients: Tensor) -> Tensor:
        return FORMS[name](x[None], coefficients[None], cells, GEOMETRY).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(cells, x, coefficients)
    expected = gradients(grouped(*tensors, GEOMETRY), tensors)[2]
    torch.testing.assert_close(each.sum(0), expected)


@pytest.mark.parametrize("name", FAST)
def test_gradients_are_the_same_where_gradients_of_them_are_wanted(
    name: Any, tensors: list[Tensor]
) -> None:
    """Coefficients come from the input, and the input of a layer from the cells of one before."""
    x, weights, cells = tensors

    def gradients_of(form: Any, create_graph: bool) -> tuple[Tensor, ...]:
        made = weights * x.mean(dim=(1, 2, 3)).view(-1, 1, 1)
        y = form(x * cells.sum(), made, cells, GEOMETRY)
        return torch.autograd.grad(y.square().sum(), tensors, create_graph=create_graph)

    expected = gradients_of(grouped, True)
    torch.testing.assert_close(gradients_of(FORMS[name], False), expected)
    found = gradients_of(FORMS[name], True)
    torch.testing.assert_close(found, expected)
    again = [sum(g.square().sum() for g in grads) for grads in (found, expected)]
    torch.testing.assert_close(
        *(torch.autograd.grad(total, tensors) for total in again)  # type: ignore[arg-type]
    )
