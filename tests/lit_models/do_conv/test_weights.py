import pytest
import torch
from torch import Tensor, nn

from lit_models.do_conv import DOConv2d


def trained_layer(**arguments: int) -> DOConv2d:
    layer = DOConv2d(4, 6, 3, groups=2, **arguments)
    nn.init.normal_(layer.D)
    return layer


def authors_state(layer: DOConv2d) -> dict[str, Tensor]:
    copies, rest = divmod(layer.depth_multiplier, 9)
    identity = torch.cat([torch.eye(9)] * copies + [torch.zeros(9, rest)], dim=1)
    return layer.state_dict() | {"d_diag": identity.repeat(4, 1, 1)}


def test_the_state_dict_holds_w_d_and_bias_only() -> None:
    assert list(trained_layer().state_dict()) == ["W", "D", "bias"]


@pytest.mark.parametrize("depth_multiplier", [9, 12, 18, 20])
def test_the_authors_state_dict_is_read(depth_multiplier: int) -> None:
    theirs = trained_layer(depth_multiplier=depth_multiplier)
    ours = DOConv2d(4, 6, 3, groups=2, depth_multiplier=depth_multiplier)
    network = nn.Sequential(nn.Sequential(ours))
    state = {f"0.0.{key}": value for key, value in authors_state(theirs).items()}
    network.load_state_dict(state, strict=True)
    assert torch.equal(ours.weight, theirs.weight)
    assert "0.0.d_diag" in state


@pytest.mark.parametrize(
    "wrong", [torch.zeros(4, 9, 9), torch.eye(9), torch.eye(9).repeat(2, 1, 1)]
)
def test_another_constant_than_the_identity_is_refused(wrong: Tensor) -> None:
    state = authors_state(trained_layer()) | {"d_diag": wrong}
    network = nn.Sequential(trained_layer())
    with pytest.raises(RuntimeError, match=r"0\.d_diag is not the identity"):
        network.load_state_dict({f"0.{key}": value for key, value in state.items()})


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("depth_multiplier", [9, 12, 18])
def test_a_plain_convolutions_state_dict_is_read(depth_multiplier: int, bias: bool) -> None:
    conv = nn.Conv2d(4, 6, 3, groups=2, bias=bias)
    layer = DOConv2d(4, 6, 3, groups=2, bias=bias, depth_multiplier=depth_multiplier)
    nn.init.normal_(layer.D)
    network = nn.Sequential(nn.Sequential(layer))
    network.load_state_dict(nn.Sequential(nn.Sequential(conv)).state_dict(), strict=True)
    torch.testing.assert_close(layer.weight, conv.weight)
    assert (layer.D == 0).all()
    images = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(layer(images), conv(images))


def test_a_plain_1x1_state_dict_is_read() -> None:
    conv, layer = nn.Conv2d(4, 6, 1), DOConv2d(4, 6, 1)
    layer.load_state_dict(conv.state_dict(), strict=True)
    assert torch.equal(layer.weight, conv.weight)


def test_a_fused_state_dict_can_be_read_back() -> None:
    layer, again = trained_layer(), DOConv2d(4, 6, 3, groups=2)
    again.load_state_dict(layer.fuse().state_dict())
    assert torch.equal(again.weight, layer.weight)


@pytest.mark.parametrize("depth_multiplier", [9, 20])
def test_a_layer_on_the_meta_device_is_assigned_a_plain_state_dict(depth_multiplier: int) -> None:
    conv = nn.Conv2d(4, 6, 3, groups=2, dtype=torch.float64)
    layer = DOConv2d(4, 6, 3, groups=2, depth_multiplier=depth_multiplier, device="meta")
    layer.load_state_dict(conv.state_dict(), strict=True, assign=True)
    torch.testing.assert_close(layer.weight, conv.weight)
    assert isinstance(layer.W, nn.Parameter)


def test_missing_and_unexpected_keys_are_reported_as_usual() -> None:
    network = nn.Sequential(trained_layer())
    keys = network.load_state_dict(
        {"0.D": torch.zeros(4, 9, 9), "0.x": torch.ones(1)}, strict=False
    )
    assert keys.missing_keys == ["0.W", "0.bias"]
    assert keys.unexpected_keys == ["0.x"]
    with pytest.raises(RuntimeError, match=r'Missing.*"0\.bias"'):
        network.load_state_dict({"0.weight": torch.zeros(6, 2, 3, 3)}, strict=True)
    with pytest.raises(RuntimeError, match=r'Unexpected.*"0\.weight"'):
        network.load_state_dict(network.state_dict() | {"0.weight": torch.zeros(6, 2, 3, 3)})


@pytest.mark.parametrize("shape", [(6, 2, 3, 5), (6, 2, 9, 1), (6, 4, 3, 3)])
def test_a_plain_kernel_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    layer = trained_layer()
    with pytest.raises(RuntimeError, match=r"size mismatch for weight: \(6") as refused:
        layer.load_state_dict({"weight": torch.zeros(shape), "bias": torch.zeros(6)})
    assert len(str(refused.value).splitlines()) == 2  # the headline and this one


def test_d_diag_is_unexpected_where_the_authors_have_none() -> None:
    layer = DOConv2d(4, 6, 1)
    with pytest.raises(RuntimeError, match="Unexpected"):
        layer.load_state_dict(layer.state_dict() | {"d_diag": torch.ones(4, 1, 1)})
