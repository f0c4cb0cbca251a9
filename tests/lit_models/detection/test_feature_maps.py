"""Feature maps of any backbone: sizes, what is frozen, what is removed."""

import pytest
import timm
import torch

import lit_models  # registers the networks
from lit_models.detection import FeatureMaps, FeatureSettings
from lit_models.kernel_warehouse import warehouse_network

# A plain network, ours, and one of each way in which timm takes features out.
NAMES = ("resnet18", "regnety_002", "mobilenetv3_small_050", "convnext_atto", "gluoncv_resnet18_v2")


def maps_of(name: str, **settings: object) -> FeatureMaps:
    with torch.device("meta"):
        return FeatureMaps(timm.create_model(name), FeatureSettings(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_maps_have_the_announced_channels_and_sides(name: str) -> None:
    maps = maps_of(name)
    levels = maps(torch.zeros(1, 3, 128, 192, device="meta"))
    assert [level.shape[1] for level in levels] == maps.channels
    assert [128 // level.shape[2] for level in levels] == maps.reductions == [4, 8, 16, 32]


def test_maps_are_those_of_timms_features_only() -> None:
    torch.manual_seed(0)
    network = timm.create_model("resnet10t").eval()
    listed = timm.create_model("resnet10t", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    listed.load_state_dict(
        {k: v for k, v in network.state_dict().items() if k in listed.state_dict()}
    )
    maps = FeatureMaps(network, FeatureSettings()).eval()
    x = torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(maps(x), listed(x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_final_features_take_the_place_of_the_last_map() -> None:
    maps = maps_of("mobilenetv2_100", final=True)
    assert maps.channels == [24, 32, 96, 1280]
    levels = maps(torch.zeros(1, 3, 64, 64, device="meta"))
    assert [level.shape[1] for level in levels] == maps.channels


def test_what_nothing_would_train_is_removed() -> None:
    names = [name for name, _ in maps_of("resnet18", levels=[1, 2]).network.named_parameters()]
    assert any(name.startswith("layer2") for name in names)
    assert not any(name.startswith(("layer3", "layer4", "fc")) for name in names)


@pytest.mark.parametrize(
    ("name", "last", "next_"),
    [("resnet18", "layer1.1.bn2.bias", "layer2"), ("mobilenetv2_100", "blocks.1.1", "blocks.2.0")],
)
def test_all_up_to_a_map_is_frozen_and_the_rest_is_not(name: str, last: str, next_: str) -> None:
    maps = maps_of(name, frozen_levels=1)
    frozen = [n for n, parameter in maps.network.named_parameters() if not parameter.requires_grad]
    trained = [n for n, parameter in maps.network.named_parameters() if parameter.requires_grad]
    assert frozen[-1].startswith(last)
    assert trained[0].startswith(next_)


@pytest.mark.parametrize("mode", ["as built", "train"])
def test_frozen_parts_and_norms_stay_in_evaluation_mode(mode: str) -> None:
    maps = maps_of("resnet18", frozen_levels=1, frozen_norms=True)
    if mode == "train":
        maps.train()
    modes = {name: module.training for name, module in maps.network.named_modules()}
    assert not modes["bn1"]
    assert not modes["layer1.0"]
    assert not modes["layer3.0.bn1"]
    assert modes["layer3.0"]
    assert maps.network.get_submodule("layer3.0.bn1").weight.requires_grad


def test_a_transformers_own_parameters_are_frozen_with_its_first_blocks() -> None:
    maps = maps_of("vit_tiny_patch16_224", frozen_levels=1)
    assert not maps.network.pos_embed.requires_grad
    assert not maps.network.cls_token.requires_grad
    assert maps.network.get_submodule("blocks.11.attn.qkv").weight.requires_grad


def test_each_map_may_have_a_norm_of_its_own() -> None:
    assert len(list(maps_of("convnext_atto", norms=True).norms.parameters())) == 8


def test_operators_stay_in_their_places() -> None:
    network = warehouse_network(timm.create_model("regnety_002"), cell_num_ratio=0.5)
    maps = FeatureMaps(network, FeatureSettings()).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert [level.shape[1] for level in maps(x)] == maps.channels


@pytest.mark.parametrize(
    ("name", "settings", "complaint"),
    [
        ("mnist_demo_pytorch", {}, "gives no feature maps"),
        ("resnet18", {"levels": [4, 2]}, r"levels is \[4, 2\]; give ascending numbers from 0 to 4"),
        ("resnet18", {"levels": [2, 3], "final": True}, "final takes the place of map 4, the last"),
        ("resnet18", {"frozen_levels": 9}, "frozen_levels is 9; ResNet has 4 maps"),
    ],
)
def test_what_cannot_be_is_said(name: str, settings: dict[str, object], complaint: str) -> None:
    assert lit_models
    with pytest.raises(ValueError, match=complaint):
        maps_of(name, **settings)
