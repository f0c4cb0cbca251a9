"""Every option of the ablations changes what it says, and nothing else."""

from typing import Any

import pytest
import timm
import torch
from torch import nn

from lit_models import DOConvClassifier
from lit_models.do_conv import DOConv2d, fuse, over_parameterise
from lit_models.do_conv.kernel import times_identity

BACKBONE = "bottlenecks_mnist"


def build(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return DOConvClassifier(BACKBONE, num_classes=10, in_chans=1, **options).network.eval()


def plain() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(BACKBONE).eval()


def do_convs(network: nn.Module) -> dict[str, DOConv2d]:
    return {name: m for name, m in network.named_modules() if isinstance(m, DOConv2d)}


@pytest.mark.parametrize(
    "options",
    [{}, {"depth_multiplier": 27}, {"pointwise": True}, {"include": ["conv1", "layer4.*"]}],
)
def test_a_network_starts_and_ends_as_the_plain_one_whatever_the_options(
    options: dict[str, Any],
) -> None:
    network, x = build(**options), torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(network(x), plain()(x), rtol=1e-4, atol=1e-5)
    fused = fuse(network, x)
    assert {k: v.shape for k, v in fused.network.state_dict().items()} == {
        k: v.shape for k, v in plain().state_dict().items()
    }
    assert fused.difference is not None
    assert fused.difference.relative < 1e-5


def test_pointwise_gives_1x1_convolutions_a_scale_of_each_input_channel() -> None:
    without, given = do_convs(build()), do_convs(build(pointwise=True))
    assert without.keys() < given.keys()
    convolutions = {n for n, m in plain().named_modules() if isinstance(m, nn.Conv2d)}
    assert given.keys() == convolutions
    for name, layer in given.items():
        assert layer.D is not None
        if name not in without:
            assert layer.D.shape == (layer.in_channels, 1, 1)
    layer = given["layer1.0.conv1"]
    with torch.no_grad():
        layer.D[3] = 1.0
    assert torch.equal(layer.weight[:, 3], 2 * layer.W[:, 3, :, None])


def test_a_pointwise_d_is_saved_and_read_with_the_network() -> None:
    network = build(pointwise=True)
    with torch.no_grad():
        do_convs(network)["layer1.0.conv1"].D.normal_()
    x = torch.randn(2, 1, 28, 28)
    other = build(pointwise=True)
    other.load_state_dict(network.state_dict())
    torch.testing.assert_close(other(x), network(x))


def test_a_random_start_changes_d_alone() -> None:
    papers, random = build().state_dict(), build(initialisation="random").state_dict()
    assert papers.keys() == random.keys()
    differing = {key for key in papers if not torch.equal(papers[key], random[key])}
    assert differing == {key for key in papers if key.endswith(".D")}


@pytest.mark.parametrize("depth_multiplier", [9, 18])
def test_a_random_depthwise_kernel_has_no_identity_in_it_and_keeps_the_kernels_scale(
    depth_multiplier: int,
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 64, 3)
    network = over_parameterise(
        nn.Sequential(conv), depth_multiplier=depth_multiplier, initialisation="random"
    )
    layer: DOConv2d = network[0]
    identity = times_identity(torch.eye(depth_multiplier), 9).T
    together = layer.D.detach() + identity
    on_it = together[:, identity.bool()]
    assert on_it.mean().abs().item() < 0.05
    assert together.std().item() == pytest.approx(depth_multiplier**-0.5, rel=0.05)
    assert layer.weight.std().item() == pytest.approx(layer.W.std().item(), rel=0.1)


def test_convolutions_that_are_not_included_stay_plain() -> None:
    network = build(include=["conv1", "layer3.*"])
    assert do_convs(network).keys() == {"conv1", "layer3.0.conv2"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initialisation": "zero"}, "initialisation is 'zero'; it must be identity or random"),
        ({"include": ["layer9.*"]}, r"include: no module of .* is called 'layer9.\*'; its parts"),
        ({"include": ["layer1.0.conv1"]}, "no convolution larger than 1x1 was chosen"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build(**options)
    assert "\n" not in str(error.value)
