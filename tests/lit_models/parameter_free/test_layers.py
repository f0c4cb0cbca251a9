from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import BlurPool2d, DropBlock2d
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lit_models.parameter_free import (
    OPERATIONS,
    EffBottleneck,
    EffLayer,
    MaxBottleneck,
    SpatialBottleneck,
)

OFTEN = settings(max_examples=25, deadline=None)
BLOCKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "max": (MaxBottleneck, {}),
    "eff": (EffBottleneck, {}),
    **{name: (SpatialBottleneck, {"operation": name}) for name in OPERATIONS},
}


def naive(layer: EffLayer, x: Tensor, rows: int, columns: int, prefix: int) -> Tensor:
    """The eff-layer token by token."""
    hidden = F.gelu(x @ layer.qkv.weight.T + layer.qkv.bias)
    pooled = hidden.clone()
    for row in range(rows):
        for column in range(columns):
            near = [
                hidden[:, prefix + r * columns + c]
                for r in range(max(0, row - 1), min(rows, row + 2))
                for c in range(max(0, column - 1), min(columns, column + 2))
            ]
            pooled[:, prefix + row * columns + column] = torch.stack(near).amax(0)
    return F.gelu(pooled) @ layer.proj.weight.T + layer.proj.bias


@OFTEN
@given(
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.integers(0, 3), st.integers(1, 3)
)
def test_an_eff_layer_takes_the_largest_of_each_tokens_neighbours(
    rows: int, columns: int, dim: int, prefix: int, batch: int
) -> None:
    layer = EffLayer(dim, (rows, columns), prefix).double()
    x = torch.randn(batch, prefix + rows * columns, dim, dtype=torch.float64)
    torch.testing.assert_close(layer(x), naive(layer, x, rows, columns, prefix))


def test_tokens_of_no_given_grid_are_a_square() -> None:
    layer = EffLayer(4)
    x = torch.randn(2, 9, 4)
    torch.testing.assert_close(layer(x), naive(layer, x, 3, 3, 0))


def test_prefix_tokens_neither_see_nor_are_seen() -> None:
    layer = EffLayer(4, (2, 3), num_prefix_tokens=1)
    x = torch.randn(1, 7, 4)
    changed = x.clone()
    changed[:, 0] += 1
    difference = (layer(changed) - layer(x)).abs().sum(2)[0]
    assert difference[0] > 0
    assert not difference[1:].any()


class Copies(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.calls[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


def test_an_eff_layer_copies_no_tokens_around_its_pool() -> None:
    layer = EffLayer(8, (3, 5))
    pools: list[Tensor] = []
    layer.pool.register_forward_hook(lambda _, inputs, output: pools.extend([*inputs, output]))
    with Copies() as copies:
        layer(torch.randn(2, 15, 8, requires_grad=True)).sum().backward()
    assert copies.calls["max_pool2d_with_indices"] == 1
    assert not copies.calls.keys() & {"clone", "copy_", "contiguous", "_to_copy", "cat"}
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in pools)


@pytest.mark.parametrize("operation", ["avg_pool", "identity"])
def test_an_eff_layer_may_mix_tokens_otherwise(operation: str) -> None:
    layer = EffLayer(4, (3, 3), operation=operation)
    x = torch.randn(2, 9, 4)
    hidden = F.gelu(layer.qkv(x))
    if operation == "avg_pool":
        maps = hidden.transpose(1, 2).unflatten(2, (3, 3))
        hidden = F.avg_pool2d(maps, 3, 1, 1, count_include_pad=False).flatten(2).transpose(1, 2)
    torch.testing.assert_close(layer(x), layer.proj(F.gelu(hidden)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda layer: layer(torch.randn(1, 5, 4)), "5 tokens are no map of 2x3; give EffLayer"),
        (lambda layer: layer(torch.randn(1, 6, 4), torch.ones(6, 6)), "no attention mask"),
        (lambda layer: layer(torch.randn(1, 6, 4), is_causal=True), "no attention mask"),
    ],
)
def test_what_an_eff_layer_cannot_do_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(EffLayer(4, (2, 3)))


def resnet(name: str, layers: Any = (1, 1, 1, 1), **options: Any) -> ResNet:
    block, block_args = BLOCKS.get(name, (Bottleneck, {}))
    block_args = {**block_args, **options.pop("block_args", {})}
    return ResNet(block, layers, 3, channels=(4, 8, 8, 8), block_args=block_args, **options)


@OFTEN
@given(
    st.sampled_from(list(BLOCKS)),
    st.integers(9, 80),
    st.integers(9, 80),
    st.sampled_from([8, 16, 32]),
)
def test_blocks_have_timms_sizes_at_any_size_and_output_stride(
    name: str, height: int, width: int, output_stride: int
) -> None:
    x = torch.randn(1, 3, height, width)
    ours = resnet(name, output_stride=output_stride).eval()
    theirs = resnet("timm", output_stride=output_stride).eval()
    with torch.no_grad():
        for mine, plain in zip(
            ours.forward_intermediates(x)[1], theirs.forward_intermediates(x)[1], strict=True
        ):
            assert mine.shape == plain.shape


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(
    "options",
    [
        {"cardinality": 2, "base_width": 32},
        {"drop_block_rate": 0.1, "drop_path_rate": 0.1},
        {"block_args": {"attn_layer": "se"}},
        {"aa_layer": BlurPool2d},
        {"avg_down": True, "norm_layer": nn.InstanceNorm2d, "act_layer": nn.SiLU},
    ],
    ids=lambda options: "-".join(options),
)
def test_blocks_take_timms_options(name: str, options: dict[str, Any]) -> None:
    network = resnet(name, **options).train()
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    if "drop_block_rate" in options:
        assert any(isinstance(module, DropBlock2d) for module in network.modules())


def test_a_max_bottleneck_is_two_pointwise_convolutions_around_a_bare_pool() -> None:
    block = MaxBottleneck(16, 4, stride=2, downsample=nn.AvgPool2d(2)).eval()
    x = torch.randn(2, 16, 8, 8)
    hidden = F.max_pool2d(F.relu(block.bn1(block.conv1(x))), 3, 2, 1)
    y = F.relu(block.bn3(block.conv3(hidden)) + F.avg_pool2d(x, 2))
    torch.testing.assert_close(block(x), y)


def test_an_eff_bottleneck_strides_by_an_average_before_its_convolution() -> None:
    block = EffBottleneck(16, 4, stride=2, downsample=nn.AvgPool2d(2)).eval()
    x = torch.randn(2, 16, 8, 8)
    hidden = F.avg_pool2d(F.relu(block.bn1(block.conv1(x))), 2)
    hidden = F.conv2d(hidden, block.conv2.conv.weight, padding=1)
    y = block.bn3(block.conv3(F.relu(block.bn2(hidden)))) + F.avg_pool2d(x, 2)
    torch.testing.assert_close(block(x), F.relu(y))


def test_an_eff_bottleneck_is_a_max_bottleneck_where_it_does_not_stride() -> None:
    eff, largest = EffBottleneck(16, 4).eval(), MaxBottleneck(16, 4).eval()
    largest.load_state_dict(eff.state_dict())
    x = torch.randn(2, 16, 5, 7)
    assert torch.equal(eff(x), largest(x))


def test_a_spatial_bottleneck_with_a_convolution_is_timms() -> None:
    ours, theirs = SpatialBottleneck(16, 4, operation="conv").eval(), Bottleneck(16, 4).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 16, 5, 7)
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("name", ["max", "eff", "avg_pool"])
def test_where_a_stride_becomes_a_dilation_pools_keep_their_window(name: str) -> None:
    network = resnet(name, layers=(1, 1, 1, 2), output_stride=16)
    pools = [block.conv2 for block in network.layer4]
    assert [(pool.kernel_size, pool.stride, pool.padding) for pool in pools] == [
        ((3, 3), (1, 1), (1, 1))
    ] * 2
    assert all(getattr(pool, "dilation", (1, 1)) == (1, 1) for pool in pools)


def test_a_block_that_changes_its_width_at_the_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="from 2 to 4; leave block_reduce_first at 1"):
        MaxBottleneck(16, 4, reduce_first=2)
    assert isinstance(SpatialBottleneck(16, 4, reduce_first=2, operation="conv"), Bottleneck)
