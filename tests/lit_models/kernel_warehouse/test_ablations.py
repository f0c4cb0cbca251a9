"""Every option of the ablations changes what it says, and nothing else."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from lit_models import KWClassifier
from lit_models.kernel_warehouse import KWConv2d, kernel_layers, set_temperature
from lit_models.kernel_warehouse.attention import AttentionFunction, set_attention_function

FUNCTIONS: tuple[AttentionFunction, ...] = get_args(AttentionFunction)
OTHERS = [function for function in FUNCTIONS if function != "contrasting"]
SMALL = {"backbone": "resnet18", "backbone_args": {"channels": [8, 8, 16, 16]}, "num_classes": 10}


def build(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return KWClassifier(**SMALL, in_chans=1, **options).network.eval()


def weights_of(layer: KWConv2d, function: AttentionFunction, pooled: Tensor) -> Tensor:
    set_attention_function(layer, function)
    return layer.attention(pooled, layer.warehouse.temperature.value)


@pytest.mark.parametrize("function", OTHERS)
def test_an_attention_function_changes_no_weight_of_the_network(function: str) -> None:
    papers, other = build().state_dict(), build(attention_function=function).state_dict()
    assert papers.keys() == other.keys()
    assert all(torch.equal(papers[key], other[key]) for key in papers)


@pytest.mark.parametrize("function", OTHERS)
def test_an_attention_function_works_where_the_temperature_lets_it(function: str) -> None:
    papers, other = build(), build(attention_function=function)
    x = torch.randn(3, 1, 28, 28)
    assert (papers(x) - other(x)).abs().max() > 1e-3
    for network in (papers, other):
        set_temperature(network, 1)
    torch.testing.assert_close(papers(x), other(x))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("contrasting", lambda z: z / (z.abs().sum(-1, keepdim=True) + 1e-3)),
        ("softmax", lambda z: z.exp() / z.exp().sum(-1, keepdim=True)),
        ("sigmoid", lambda z: 1 / (1 + (-z).exp())),
        ("plain", lambda z: z),
    ],
)
def test_weights_are_the_function_of_all_logits_less_the_all_zero_cells(
    function: AttentionFunction, expected: Callable[[Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    layer = KWConv2d(8, 8, 3).eval()
    pooled = torch.randn(4, 8)
    hidden = layer.attention.norm1(layer.attention.fc1(pooled)).relu()
    logits = layer.attention.fc2(hidden).unflatten(1, (9, 10))
    weights = weights_of(layer, function, pooled)
    torch.testing.assert_close(weights, expected(logits)[..., :-1])


def test_the_papers_networks_take_an_attention_function_too() -> None:
    with torch.device("meta"):
        network = KWClassifier("kw1x_resnet18", attention_function="softmax").network
    assert {layer.attention.function for layer in kernel_layers(network)} == {"softmax"}


def test_an_unknown_attention_function_is_refused_in_one_line() -> None:
    message = "attention_function is 'max'; it must be one of contrasting, softmax, sigmoid, plain"
    with pytest.raises(ValueError, match=message):
        build(attention_function="max")


def test_layers_that_are_not_included_stay_as_they_were() -> None:
    everywhere, some = build(), build(include=["layer1.1.*", "layer4.1.conv2"])
    names = {n for n, module in some.named_modules() if isinstance(module, KWConv2d)}
    assert names == {"layer1.1.conv1", "layer1.1.conv2", "layer4.1.conv2"}
    assert names < {n for n, module in everywhere.named_modules() if isinstance(module, KWConv2d)}
    assert {name for name, why in some.static_kernels.items() if why == "it is not included"} == {
        name for name, module in some.named_modules() if isinstance(module, nn.Conv2d)
    }


def test_the_sharing_range_changes_neither_layers_nor_the_number_of_cells() -> None:
    warehouses, cells, layers = [], set(), set()
    for sharing in ("stage", "block", "none"):
        network = build(sharing=sharing)
        found = {layer.warehouse for layer in kernel_layers(network)}
        warehouses.append(len(found))
        cells.add(sum(warehouse.cells.numel() for warehouse in found))
        layers.add(len(list(kernel_layers(network))))
    assert warehouses[0] < warehouses[1] < warehouses[2] == layers.pop()
    assert len(cells) == 1
    assert not layers


def test_smaller_cells_change_the_cut_and_not_the_number_of_parameters_in_cells() -> None:
    def cells(**options: Any) -> tuple[set[tuple[int, ...]], int]:
        found = {layer.warehouse.cells for layer in kernel_layers(build(**options))}
        return {tuple(c.shape[1:]) for c in found}, sum(c.numel() for c in found)

    whole, half = cells(), cells(cell_inplane_ratio=0.5)
    assert whole[1] == half[1]
    assert max(shape[1] for shape in half[0]) == max(shape[1] for shape in whole[0]) // 2
    assert {shape[0] for shape in half[0]} == {shape[0] for shape in whole[0]}
