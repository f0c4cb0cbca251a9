import timm
import torch

import lit_models  # noqa: F401 - registers the networks
from lit_models.complexity import count_parameters, multiply_adds


def test_the_cifar_resnet18_has_its_usual_size() -> None:
    network = timm.create_model("resnet18_cifar", num_classes=10)
    assert count_parameters(network) == 11_173_962
    assert round(multiply_adds(network, (3, 32, 32)) / 1e6) == 555


def test_its_features_have_the_sizes_they_say() -> None:
    network = timm.create_model("resnet18_cifar", features_only=True)
    maps = network(torch.rand(1, 3, 32, 32))
    assert [32 // m.shape[-1] for m in maps] == network.feature_info.reduction()
    assert [m.shape[1] for m in maps] == network.feature_info.channels()


def test_its_options_are_those_of_timm() -> None:
    network = timm.create_model("resnet18_cifar", in_chans=1, num_classes=3, drop_path_rate=0.1)
    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 3)
    assert network.default_cfg["input_size"] == (3, 32, 32)
