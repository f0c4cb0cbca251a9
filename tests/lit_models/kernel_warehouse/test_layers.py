from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lit_models.kernel_warehouse import (
    KWConv1d,
    KWConv2d,
    KWConv3d,
    KWLinear,
    Warehouse,
    set_temperature,
    temperature,
)
from lit_models.kernel_warehouse.layers import KWConv
from lit_models.kernel_warehouse.mixture import Geometry, per_sample_convolution

OPERATORS: list[tuple[type[KWConv], type[nn.Module]]] = [
    (KWConv1d, nn.Conv1d),
    (KWConv2d, nn.Conv2d),
    (KWConv3d, nn.Conv3d),
]


def kernel_at_the_start(layer: KWConv) -> Tensor:
    """The kernel that the layer's own cells make one to one: what temperature 1 must give."""
    place = layer.attention.shelf
    own = layer.warehouse.cells[place.first_cell : place.first_cell + place.num_cells]
    step = place.num_cells // place.mixtures
    pieces = own[::step].unflatten(0, (place.groups_spatial, place.groups_out, place.groups_in))
    kernel = pieces.flatten(5).squeeze(5) if pieces.ndim > 5 else pieces
    return kernel.permute(1, 3, 2, 4, 0).reshape(place.kernel)


@settings(deadline=None, max_examples=40)
@given(
    operators=st.sampled_from(OPERATORS),
    groups=st.sampled_from([1, 2, 4]),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    ratio=st.integers(1, 3),
    bias=st.booleans(),
)
def test_at_temperature_1_a_layer_is_the_plain_convolution_of_its_own_cells(
    operators: tuple[type[KWConv], type[nn.Module]],
    groups: int,
    stride: int,
    padding: int,
    dilation: int,
    ratio: int,
    bias: bool,
) -> None:
    torch.manual_seed(0)
    ours, plain = operators
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    warehouse = Warehouse([(12, 8 // groups, *(3,) * ours.dimensions)], cell_num_ratio=ratio)
    layer = ours(8, 12, 3, **options, bias=bias, warehouse=warehouse)
    set_temperature(layer, 1)
    expected = plain(8, 12, 3, **options, bias=bias)
    expected.weight.data = kernel_at_the_start(layer).detach()
    if bias:
        layer.bias.data.normal_()
        expected.bias.data = layer.bias.data
    x = torch.randn(2, 8, *(7,) * ours.dimensions)
    torch.testing.assert_close(layer(x), expected(x), rtol=1e-4, atol=1e-5)


def test_the_kernel_depends_on_the_input_once_the_assignment_is_forgotten() -> None:
    torch.manual_seed(0)
    layer = KWConv2d(8, 8, 3, padding=1, bias=False).eval()
    one, two = torch.randn(2, 1, 8, 6, 6)
    linear = layer(torch.cat([one, two])).sum(0) - layer(one + two)[0]
    assert linear.abs().max() > 1e-3
    set_temperature(layer, 1)
    linear = layer(torch.cat([one, two])).sum(0) - layer(one + two)[0]
    assert linear.abs().max() < 1e-5


def test_in_evaluation_a_sample_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(0)
    layer = KWConv2d(8, 8, 3, padding=1).eval()
    x = torch.randn(5, 8, 6, 6)
    alone = torch.cat([layer(sample[None]) for sample in x])
    torch.testing.assert_close(layer(x), alone)


@pytest.mark.parametrize("shape", [(3, 8), (3, 5, 8), (3, 2, 5, 8)])
def test_a_linear_layer_gives_all_positions_of_a_sample_its_matrix(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = KWLinear(8, 6)
    layer.bias.data.normal_()
    set_temperature(layer, 1)
    x = torch.randn(shape)
    matrix = layer.warehouse.cells[0, :, :, 0]
    torch.testing.assert_close(layer(x), x @ matrix.T + layer.bias)


def test_a_linear_layer_is_a_1d_convolution_over_its_positions() -> None:
    torch.manual_seed(0)
    linear, conv = KWLinear(8, 6).eval(), KWConv1d(8, 6, 1).eval()
    conv.load_state_dict(linear.state_dict())
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(linear(x), conv(x.transpose(1, 2)).transpose(1, 2))


def test_the_mixture_is_one_replaceable_function() -> None:
    layer = KWConv2d(4, 4, 1).eval()
    x = torch.randn(2, 4, 5, 5)
    calls = []

    def recorded(*arguments: Any) -> Tensor:
        calls.append(arguments)
        return per_sample_convolution(*arguments)

    expected = layer(x)
    layer.mixture = recorded
    torch.testing.assert_close(layer(x), expected)
    ((_, coefficients, cells, geometry),) = calls
    assert coefficients.shape == (2, 1, 1)
    assert cells is layer.warehouse.cells
    assert isinstance(geometry, Geometry)


def test_layers_know_what_convolutions_and_linear_layers_know() -> None:
    conv = KWConv2d(4, 8, (3, 5), stride=2, padding=(1, 2), dilation=1, groups=2)
    assert (conv.in_channels, conv.out_channels, conv.groups) == (4, 8, 2)
    assert (conv.kernel_size, conv.stride, conv.padding) == ((3, 5), (2, 2), (1, 2))
    assert conv.weight.dtype == torch.float32
    linear = KWLinear(4, 8)
    assert (linear.in_features, linear.out_features) == (4, 8)


def test_biases_and_basis_start_at_zero() -> None:
    warehouse = Warehouse([(4, 4, 3, 3), (4, 4, 3, 3)])
    layer = KWConv2d(4, 4, 3, warehouse=warehouse, nonlocal_basis_ratio=0.5)
    assert not layer.bias.any()
    assert not layer.attention.basis_bias.any()
    assert layer.attention.fc2.bias is None


def test_the_attention_starts_with_hes_rule() -> None:
    torch.manual_seed(0)
    attention = KWConv2d(512, 64, 3).attention
    assert attention.fc1.bias is None
    assert not attention.fc2.bias.any()
    for linear in (attention.fc1, attention.fc2):
        assert linear.weight.std().item() == pytest.approx(
            (2 / linear.out_features) ** 0.5, rel=0.1
        )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: KWConv2d(6, 8, 3, groups=4), "groups 4 must divide in_channels 6"),
        (lambda: KWConv2d(4, 8, (3, 3, 3)), "KWConv2d takes 2 numbers"),
        (
            lambda: KWConv2d(4, 8, 3, warehouse=Warehouse([(8, 4, 1, 1)])),
            r"made for a kernel \(8, 4, 1, 1\) at position 0, not for \(8, 4, 3, 3\)",
        ),
        (
            lambda: KWConv2d(4, 8, 3, warehouse=Warehouse([(8, 4, 3, 3)]), position=1),
            "position 1 is not among the 1 kernels",
        ),
        (lambda: KWConv2d(4, 8, 3, reduction=0), "reduction is 0; it must be above 0"),
        (lambda: KWConv2d(4, 8, 3, norm="group"), "norm is 'group'; it must be 'batch' or 'layer'"),
        (lambda: KWConv2d(4, 8, 3, nonlocal_basis_ratio=0), "nonlocal_basis_ratio is 0"),
        (lambda: KWConv2d(4, 8, 3)(torch.randn(4, 8, 8)), "KWConv2d takes an input of 4 axes"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build()
    assert "\n" not in str(error.value)


def test_batch_normalisation_refuses_to_train_on_one_sample() -> None:
    x = torch.randn(1, 8, 5, 5)
    with pytest.raises(ValueError, match="cannot train on a batch of one sample"):
        KWConv2d(8, 8, 3)(x)
    assert KWConv2d(8, 8, 3, norm="layer")(x).shape == (1, 8, 3, 3)
    assert KWConv2d(8, 8, 3).eval()(x).shape == (1, 8, 3, 3)
    frozen = KWConv2d(8, 8, 3)
    frozen.attention.norm1.eval()
    assert frozen(x).shape == (1, 8, 3, 3)


def test_the_temperature_is_set_and_read() -> None:
    layer = KWConv2d(8, 8, 3)
    assert temperature(layer) == 0
    set_temperature(layer, 0.5)
    assert temperature(layer) == 0.5


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_temperature_outside_0_to_1_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="it must be between 0 and 1"):
        set_temperature(KWConv2d(8, 8, 3), value)


def test_a_network_without_attention_has_no_temperature() -> None:
    plain = nn.Conv2d(8, 8, 3)
    with pytest.raises(ValueError, match="no KernelWarehouse layer, so no temperature"):
        temperature(plain)
    with pytest.raises(ValueError, match="no KernelWarehouse layer, so no temperature"):
        set_temperature(plain, 1)
