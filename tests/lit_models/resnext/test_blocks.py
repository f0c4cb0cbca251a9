"""The equivalent forms of a block (the paper's Figure 3), and that its paths are apart."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.resnet import Bottleneck
from torch import Tensor
from torch.nn import functional as F

BLOCKS = st.tuples(
    st.sampled_from([1, 2, 4, 8, 32]), st.integers(1, 5), st.integers(1, 2), st.integers(0, 2**16)
)


def build(cardinality: int, width: int, stride: int, seed: int) -> tuple[Bottleneck, Tensor]:
    """A block in grouped form (c), its norms trained somewhere, in float64; and an input."""
    torch.manual_seed(seed)
    # timm's base width is for 64 channels; the block returns 4 x 16 channels and takes 24.
    block = Bottleneck(24, 16, stride, cardinality=cardinality, base_width=4 * width).double()
    for norm in (block.bn1, block.bn2, block.bn3):
        for tensor in (norm.weight, norm.running_var):
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
        for tensor in (norm.bias, norm.running_mean):
            torch.nn.init.normal_(tensor)
    return block.eval(), torch.randn(2, 24, 6, 6, dtype=torch.float64)


def aggregated(block: Bottleneck, x: Tensor) -> Tensor:
    """What the grouped block adds to its shortcut, up to its last norm."""
    x = block.act1(block.bn1(block.conv1(x)))
    x = block.act2(block.bn2(block.conv2(x)))
    return block.conv3(x)


def path(block: Bottleneck, x: Tensor, number: int) -> Tensor:
    """One path alone, from the input to its `d` channels before the last convolution."""
    width = block.conv2.out_channels // block.conv2.groups
    own = slice(number * width, (number + 1) * width)

    def norm(y: Tensor, layer: torch.nn.BatchNorm2d) -> Tensor:
        facts = (layer.running_mean, layer.running_var, layer.weight, layer.bias)
        return F.relu(F.batch_norm(y, *(fact[own] for fact in facts), eps=layer.eps))

    x = norm(F.conv2d(x, block.conv1.weight[own]), block.bn1)
    x = F.conv2d(x, block.conv2.weight[own], stride=block.conv2.stride, padding=1)
    return norm(x, block.bn2)


def last_weights(block: Bottleneck, number: int) -> Tensor:
    width = block.conv2.out_channels // block.conv2.groups
    return block.conv3.weight[:, number * width : (number + 1) * width]


@settings(deadline=None, max_examples=30)
@given(BLOCKS)
def test_a_grouped_block_is_the_sum_of_its_paths(facts: tuple[int, int, int, int]) -> None:
    block, x = build(*facts)
    summed = sum(
        F.conv2d(path(block, x, number), last_weights(block, number))
        for number in range(block.conv2.groups)
    )
    torch.testing.assert_close(aggregated(block, x), summed)


@settings(deadline=None, max_examples=30)
@given(BLOCKS)
def test_a_grouped_block_is_one_convolution_of_its_concatenated_paths(
    facts: tuple[int, int, int, int],
) -> None:
    block, x = build(*facts)
    paths = torch.cat([path(block, x, number) for number in range(block.conv2.groups)], dim=1)
    torch.testing.assert_close(aggregated(block, x), F.conv2d(paths, block.conv3.weight))


@settings(deadline=None, max_examples=30)
@given(BLOCKS, st.data())
def test_a_path_hears_nothing_of_another_before_they_are_added(
    facts: tuple[int, int, int, int], data: st.DataObject
) -> None:
    block, x = build(*facts)
    cardinality = block.conv2.groups
    silenced = data.draw(st.integers(0, cardinality - 1))
    width = block.conv2.out_channels // cardinality
    before = [path(block, x, number) for number in range(cardinality)]
    with torch.no_grad():
        block.conv1.weight[silenced * width : (silenced + 1) * width] += 1
    for number in range(cardinality):
        same = torch.equal(path(block, x, number), before[number])
        assert same or number == silenced


@settings(deadline=None, max_examples=30)
@given(BLOCKS)
def test_the_order_of_the_paths_does_not_matter(facts: tuple[int, int, int, int]) -> None:
    block, x = build(*facts)
    expected = aggregated(block, x)
    cardinality, channels = block.conv2.groups, block.conv2.out_channels
    order = torch.randperm(cardinality)
    rows = torch.arange(channels).view(cardinality, -1)[order].flatten()
    with torch.no_grad():
        for layer in (block.conv1, block.conv2):
            layer.weight.copy_(layer.weight[rows])
        for norm in (block.bn1, block.bn2):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                tensor.copy_(tensor[rows])
        block.conv3.weight.copy_(block.conv3.weight[:, rows])
    torch.testing.assert_close(aggregated(block, x), expected)
