import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from experiments.sync_batch_norm import SyncBatchNorm


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_byobnet"])
def test_every_normalisation_is_synchronised_and_none_loses_its_activation(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
    images = torch.randn(2, 3, 64, 64)
    before, keys = network(images), list(network.state_dict())
    plugin = SyncBatchNorm()
    for _ in range(2):  # the second time there is nothing left to do
        network = plugin.apply(network)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
        torch.testing.assert_close(network(images), before)
    assert list(plugin.revert(network).state_dict()) == keys


def test_a_normalisation_that_layers_share_stays_shared() -> None:
    shared = BatchNormAct2d(4)
    network = nn.Sequential(nn.Sequential(shared), nn.Sequential(shared))
    SyncBatchNorm().apply(network)
    assert network[0][0] is network[1][0]
    assert isinstance(network[0][0].act, nn.ReLU)
