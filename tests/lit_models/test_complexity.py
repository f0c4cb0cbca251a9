import timm
import torch
from torch import nn

from lit_models.complexity import count_parameters, multiply_adds


def test_resnet50_costs_what_is_published() -> None:
    with torch.device("meta"):
        network = timm.create_model("resnet50")
    assert count_parameters(network) == 25_557_032
    assert round(multiply_adds(network, (3, 224, 224)) / 1e9, 2) == 4.09


def test_a_shared_parameter_counts_once() -> None:
    layer = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(layer, layer)) == 12


def test_counting_leaves_the_mode_of_every_module() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    network[1].eval()
    multiply_adds(network, (1, 5, 5))
    assert [module.training for module in network.modules()] == [True, True, False]


def test_a_convolution_costs_kernel_times_maps() -> None:
    assert multiply_adds(nn.Conv2d(3, 8, 5, bias=False), (3, 12, 12)) == 8 * 8 * 8 * 3 * 25


def test_counting_leaves_frozen_what_is_frozen_and_the_rest_trained() -> None:
    # timm's PiT hands a parameter from module to module.
    with torch.device("meta"):
        network = timm.create_model("pit_ti_224", depth=(1, 1, 1))
    network.patch_embed.requires_grad_(False)
    before = {name: p.requires_grad for name, p in network.named_parameters()}
    assert multiply_adds(network, (3, 224, 224)) > 0
    assert {name: p.requires_grad for name, p in network.named_parameters()} == before
    assert len(set(before.values())) == 2
