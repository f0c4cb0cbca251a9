from typing import Any

import pytest
import timm
import torch
from torch import nn

from lit_models import ParameterFreeClassifier
from lit_models.parameter_free import EffLayer


def build(backbone: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return ParameterFreeClassifier(backbone, num_classes=10, **options).network


@pytest.mark.parametrize("backbone", ["resnet50_hybrid", "vit_ti_max", "pit_ti_max"])
def test_the_papers_networks_are_taken_as_they_are(backbone: str) -> None:
    with torch.device("meta"):
        plain = timm.create_model(backbone, num_classes=10)
    assert build(backbone).state_dict().keys() == plain.state_dict().keys()


def test_options_shape_what_any_other_backbone_becomes() -> None:
    pools = [type(module) for module in build("resnet18", operation="avg_pool").modules()]
    assert pools.count(nn.AvgPool2d) == 13
    network = build("deit_tiny_patch16_224", alternate=False)
    assert sum(isinstance(module, EffLayer) for module in network.modules()) == 12


def test_options_for_a_network_of_the_paper_are_refused() -> None:
    message = "resnet50_max has parameter-free operations of its own; give operation, where in"
    with pytest.raises(ValueError, match=message):
        build("resnet50_max", operation="max_pool", where="convolutions")


def test_hyperparameters_say_what_was_built() -> None:
    with torch.device("meta"):
        model = ParameterFreeClassifier("resnet18", operation="identity", num_classes=10)
    assert model.hparams["operation"] == "identity"
    assert model.hparams["where"] is None
