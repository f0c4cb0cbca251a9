import pytest
import timm
from torch import nn

from lit_models.registry import create_network, register_network


def tiny(num_classes: int = 10, in_chans: int = 3, width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_chans, width, 1), nn.Flatten(), nn.LazyLinear(num_classes))


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    facts = {"input_size": (1, 28, 28), "num_classes": 10}
    register_network("registry_test_net", tiny, facts)


def test_timm_builds_what_was_registered() -> None:
    network = timm.create_model("registry_test_net", num_classes=7, in_chans=1, width=6)
    assert network[0].weight.shape == (6, 1, 1, 1)
    assert network[2].out_features == 7


def test_the_facts_about_a_network_travel_with_it() -> None:
    network = create_network("registry_test_net")
    assert network.pretrained_cfg["input_size"] == (1, 28, 28)


def test_a_network_without_weights_says_so() -> None:
    with pytest.raises(ValueError, match="registry_test_net comes without weights"):
        timm.create_model("registry_test_net", pretrained=True)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'resnet5O'; nearest: .*resnet50"):
        create_network("resnet5O")
