"""Heat maps: which layer they are of, how tokens become maps, and that they point rightly."""

import pytest
import torch
from torch import Tensor, nn

from experiments.compose import ConfigError
from experiments.explain.cam import METHODS, Method, activation_maps
from experiments.explain.layers import SpatialLayer, find_layer
from experiments.explain.layouts import Layout, find_layout, token_grid
from lit_models.kernel_warehouse import KWLinear, Warehouse

pytest.importorskip("captum", reason="needs the extra `explain`")


class Convolutional(nn.Module):
    """Class 0 is brightness, class 1 darkness; seen in patches of 8x8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 8, stride=8, bias=False)
        self.block = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.stem.weight[0] = 1
            self.stem.weight[1] = -1
            self.fc.weight.copy_(torch.eye(2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.pool(self.block(self.stem(x))).flatten(1))
        return y


class WithClassToken(nn.Module):
    """A transformer by form: patches become tokens, and the class token reads them once."""

    num_prefix_tokens = 1

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 16, stride=16, bias=False)
        self.norm1 = nn.LayerNorm(2, elementwise_affine=False)
        self.norm = nn.LayerNorm(2)
        self.fc = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.stem.weight[0] = 1 / 256
            self.stem.weight[1] = 0
            self.fc.weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.stem(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((torch.zeros_like(patches[:, :1]), patches), dim=1)
        attended = self.norm1(tokens)
        read = tokens[:, :1] + attended[:, 1:].mean(dim=1, keepdim=True)
        tokens = self.norm(torch.cat((read, tokens[:, 1:]), dim=1))
        y: Tensor = self.fc(tokens[:, 0])
        return y


class Flattening(nn.Module):
    """Each place of the map has weights of its own: those of the first are positive."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.AvgPool2d(4), nn.ReLU())
        self.fc = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[1.0, -1.0, -1.0, -1.0], [0.0, 0.0, 0.0, 0.0]]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.block(x).flatten(1))
        return y


def lit(height: int, width: int, quadrant: tuple[int, int]) -> Tensor:
    image = torch.full((1, 1, height, width), -1.0)
    top, left = quadrant[0] * height // 2, quadrant[1] * width // 2
    image[:, :, top : top + height // 2, left : left + width // 2] = 1
    return image


def share_of_quadrant(heat: Tensor, quadrant: tuple[int, int]) -> float:
    height, width = heat.shape
    top, left = quadrant[0] * height // 2, quadrant[1] * width // 2
    inside = heat[top : top + height // 2, left : left + width // 2].sum()
    return (inside / heat.sum()).item()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("quadrant", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("network", [Convolutional(), WithClassToken()], ids=["cnn", "tokens"])
def test_the_quadrant_that_speaks_for_the_class_is_lit(
    network: nn.Module, quadrant: tuple[int, int], method: Method
) -> None:
    network.eval()
    image = lit(224, 160, quadrant)
    layer = find_layer(network, image)
    (heat,) = activation_maps(network, layer, image, torch.tensor([0]), method)
    assert heat.shape == (224, 160)
    assert heat.max() == 1
    assert heat.min() >= 0
    assert share_of_quadrant(heat, quadrant) > 0.8


def test_another_class_is_lit_elsewhere() -> None:
    network, image = Convolutional().eval(), lit(64, 64, (0, 0))
    layer = find_layer(network, image)
    bright, dark = (activation_maps(network, layer, image, torch.tensor([c]))[0] for c in (0, 1))
    assert bright[16, 16] == 1
    assert bright[48, 48] == 0
    assert dark[16, 16] == 0
    assert dark[48, 48] == 1


def test_grad_cam_is_what_its_paper_says() -> None:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 5, 3, stride=4), nn.Tanh())
    head = nn.Sequential(nn.Flatten(), nn.Linear(5 * 5 * 4, 7))
    network = nn.Sequential(features, head).eval()
    images, targets = torch.randn(2, 3, 20, 16), torch.tensor([3, 6])
    heat = activation_maps(network, SpatialLayer("0", Layout("NCHW", (5, 4))), images, targets)
    maps = features(images).detach().requires_grad_()
    score = head(maps).gather(1, targets.unsqueeze(1)).sum()
    (gradient,) = torch.autograd.grad(score, maps)
    cam = torch.einsum("nc,nchw->nhw", gradient.mean(dim=(2, 3)), maps).relu().unsqueeze(1)
    cam = nn.functional.interpolate(cam.detach(), (20, 16), mode="bilinear")[:, 0]
    torch.testing.assert_close(heat, cam / cam.amax(dim=(1, 2), keepdim=True))


def test_evidence_that_an_average_hides_is_shown_by_hires_cam_alone() -> None:
    network, image = Flattening().eval(), torch.ones(1, 1, 8, 8)
    layer, target = find_layer(network, image), torch.tensor([0])
    assert not activation_maps(network, layer, image, target, "grad-cam").any()
    (heat,) = activation_maps(network, layer, image, target, "hires-cam")
    assert heat[0, 0] == 1
    assert heat[7, 7] == 0


def test_looking_leaves_the_network_as_it_was() -> None:
    network, image = Convolutional().eval(), lit(64, 64, (0, 0))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    logits = network(image)
    activation_maps(network, find_layer(network, image), image, torch.tensor([0]))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
        for module in network.modules()
    )
    assert not network.training
    assert torch.equal(network(image), logits)


def test_frozen_networks_are_explained_too() -> None:
    network, image = Convolutional().eval().requires_grad_(False), lit(64, 64, (0, 0))
    heat = activation_maps(network, find_layer(network, image), image, torch.tensor([0]))
    assert heat[0, 16, 16] == 1


def test_the_default_is_the_last_map_that_matters() -> None:
    assert str(find_layer(Convolutional().eval(), lit(64, 64, (0, 0)))) == "block (8x8)"
    # The last normalisation gives a map as well, but only its class token is read.
    assert str(find_layer(WithClassToken().eval(), lit(224, 160, (0, 0)))) == "norm1 (14x10)"


def test_what_an_operator_makes_its_kernel_from_is_no_map() -> None:
    network = WithClassToken()
    # Four mixtures of four cells have the form of 2x2 tokens.
    warehouse = Warehouse([(2, 2, 1)], cell_inplane_ratio=0.5, cell_outplane_ratio=0.5)
    operator = KWLinear(2, 2, warehouse=warehouse)
    network.norm1 = nn.Sequential(nn.LayerNorm(2), operator)  # type: ignore[assignment]
    image = lit(32, 32, (0, 0))
    assert str(find_layer(network.eval(), image)) == "norm1 (2x2)"
    with pytest.raises(ConfigError, match="no map of the image"):
        find_layer(network, image, "norm1.1.attention")


def test_a_kernel_from_the_mean_of_all_tokens_looks_at_no_place() -> None:
    network, image = WithClassToken(), lit(32, 32, (0, 0))
    network.norm = nn.Sequential(nn.LayerNorm(2), KWLinear(2, 2))  # type: ignore[assignment]
    assert str(find_layer(network.eval(), image)) == "norm1 (2x2)"


def test_a_class_token_is_left_out_of_the_map_and_put_back() -> None:
    tokens = torch.arange(2 * 141 * 3.0).view(2, 141, 3)
    layout = find_layout(tokens.shape, (224, 160))
    assert layout == Layout("tokens", (14, 10), 1)
    maps = layout.to_map(tokens)
    assert maps.shape == (2, 3, 14, 10)
    assert torch.equal(maps[:, :, 2, 5], tokens[:, 1 + 2 * 10 + 5])
    assert torch.equal(layout.from_map(maps, tokens), tokens)
    doubled, other = layout.through(lambda x: 2 * x, (tokens, "other"))
    assert other == "other"
    assert torch.equal(doubled[:, 0], tokens[:, 0])
    assert torch.equal(doubled[:, 1:], 2 * tokens[:, 1:])


@pytest.mark.parametrize(
    ("shape", "image", "prefix", "expected"),
    [
        ((1, 512, 7, 5), (224, 160), None, Layout("NCHW", (7, 5))),
        ((1, 7, 7, 768), (224, 224), None, Layout("NHWC", (7, 7))),
        ((1, 197, 192), (224, 224), 1, Layout("tokens", (14, 14), 1)),
        ((1, 201, 384), (224, 224), 5, Layout("tokens", (14, 14), 5)),
        ((1, 196, 192), (224, 224), 1, Layout("tokens", (14, 14), 0)),
        ((1, 513, 96), (224, 160), None, Layout("tokens", (27, 19), 0)),
        ((1, 3, 197, 64), (224, 224), 1, None),
        ((1, 512, 1, 1), (224, 224), None, None),
        ((1, 1000), (224, 224), None, None),
    ],
)
def test_maps_are_found_in_shapes(
    shape: tuple[int, ...],
    image: tuple[int, int],
    prefix: int | None,
    expected: Layout | None,
) -> None:
    assert find_layout(shape, image, prefix) == expected


def test_a_grid_has_the_proportions_of_the_image() -> None:
    assert token_grid(140, (224, 160)) == (14, 10)
    assert token_grid(140, (160, 224)) == (10, 14)
    assert token_grid(139, (224, 160)) is None


def test_a_channels_last_map_is_turned() -> None:
    output = torch.randn(2, 3, 4, 8)
    layout = Layout("NHWC", (3, 4))
    assert torch.equal(layout.to_map(output)[:, :, 1, 2], output[:, 1, 2])
    assert torch.equal(layout.from_map(layout.to_map(output), output), output)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blok", "has no layer 'blok'; did you mean block"),
        ("qqqq", "it has stem, block"),
        ("fc", r"fc of Convolutional gives \(1, 2\), no map of the image; layers with a map: "),
    ],
)
def test_a_layer_without_a_map_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_layer(Convolutional().eval(), lit(64, 64, (0, 0)), name)


def test_a_network_without_a_map_says_so() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(ConfigError, match="no layer of Sequential gives a map"):
        find_layer(network, torch.rand(1, 1, 4, 4))
