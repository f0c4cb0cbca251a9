import pytest
import timm
import torch
from torch import Tensor, nn

from lit_models.norm_folding import fold_norms
from lit_models.registry import create_network


def trained_norms(network: nn.Module) -> nn.Module:
    """The network in evaluation, its norms with statistics and weights of their own."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                tensor.data.normal_(generator=generator)
            for tensor in (module.running_var, module.weight):
                tensor.data.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", ["resnet50_hybrid", "resnet50_max", "resnet18"])
def test_a_network_without_its_norms_computes_the_same_for_any_batch(name: str) -> None:
    network = trained_norms(create_network(name, num_classes=10)).double()
    folded = fold_norms(network)
    assert norms(network) > 0 == norms(folded)
    for size in (1, 3):
        images = torch.randn(size, 3, 64, 64, dtype=torch.float64)
        torch.testing.assert_close(folded(images), network(images))


def test_a_network_without_norms_stays_as_it_is() -> None:
    network = timm.create_model("convnext_atto", num_classes=10).eval()
    assert fold_norms(network) is network


def test_a_network_whose_way_depends_on_values_stays_as_it_is() -> None:
    network = create_network("kw1x_resnet18", num_classes=10).eval()
    assert fold_norms(network) is network


class _Twice(nn.Module):
    """A convolution with two norms, as in a head that several maps share."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.conv(self.first(self.conv(x))))


def test_a_convolution_that_two_norms_follow_keeps_them() -> None:
    network = trained_norms(_Twice())
    assert fold_norms(network) is network


class _Read(nn.Module):
    """A convolution whose weight is read, too, as by a penalty."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + self.conv.weight.sum()


def test_a_convolution_whose_weight_is_read_elsewhere_keeps_its_norm() -> None:
    network = trained_norms(_Read())
    assert fold_norms(network) is network


def test_a_convolution_whose_output_is_hooked_keeps_its_norm() -> None:
    network = trained_norms(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    assert fold_norms(network) is not network
    network[0].register_forward_hook(lambda module, inputs, output: output.relu())
    assert fold_norms(network) is network
