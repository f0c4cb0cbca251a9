import copy

import pytest
import timm
import torch
from timm.layers import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.parameter_free import PARAMETER_FREE, EffLayer, parameter_free_network

# Of very different build; all are small.
CONVOLUTIONAL = [
    "resnet10t",
    "regnety_002",
    "mobilenetv3_small_050",
    "ghostnet_050",
    "convnextv2_atto",
    "tf_efficientnetv2_b0",
    "mobilevit_xxs",
    "edgenext_xx_small",
    "pvt_v2_b0",
    "convmixer_768_32",
    "repvgg_a0",
    "inception_next_atto",
    "mobileone_s0",
]
TRANSFORMERS = {
    "vit_tiny_patch16_224": (14, 14, 1),
    "deit_tiny_distilled_patch16_224": (14, 14, 2),
    "vit_wee_patch16_reg1_gap_256": (16, 16, 1),
    "flexivit_small": (15, 15, 1),
    "vitamin_small_224": (14, 14, 0),
    "pit_ti_224": (27, 27, 1),
    "pit_ti_distilled_224": (27, 27, 2),
}


def on_meta(backbone: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(backbone, **options)


def layers_of(network: nn.Module) -> list[EffLayer]:
    return [module for module in network.modules() if isinstance(module, EffLayer)]


@pytest.mark.parametrize(
    ("backbone", "operation"), zip(CONVOLUTIONAL, PARAMETER_FREE * 5, strict=False)
)
def test_a_backbone_keeps_its_sizes_and_learns(backbone: str, operation: str) -> None:
    network = timm.create_model(backbone, num_classes=3).train()
    x = torch.randn(2, 3, 64, 64)
    size = network.forward_features(x).shape
    before = sum(parameter.numel() for parameter in network.parameters())
    assert parameter_free_network(network, operation, where="convolutions") is network
    assert network.forward_features(x).shape == size
    network(x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert sum(parameter.numel() for parameter in network.parameters()) < before


def test_what_is_larger_than_a_pixel_and_keeps_the_channels_is_replaced_and_nothing_else() -> None:
    network = on_meta("resnet18")
    convolutions = {
        name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)
    }
    parameter_free_network(network)
    for name, conv in convolutions.items():
        module = network.get_submodule(name)
        if conv.kernel_size != (1, 1) and conv.in_channels == conv.out_channels:
            assert isinstance(module, nn.MaxPool2d)
            assert module.kernel_size == conv.kernel_size
            assert module.stride == conv.stride
        else:
            assert module is conv


class Various(nn.Sequential):
    """Windows of every kind, and what cannot be replaced."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(4, 4, (3, 5), stride=(2, 1), padding=(1, 2), groups=2),
            nn.Conv2d(4, 4, 7, padding=9, dilation=3, groups=4),
            nn.Conv2d(4, 4, 3, padding="same", dilation=2),
            nn.Conv2d(4, 4, 2, stride=2),
            nn.Conv2d(4, 4, 3, padding="valid"),
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
            nn.Conv2d(4, 4, 2, padding="same"),
            nn.Conv2d(4, 4, 3, padding=2),
            nn.Conv2d(4, 4, 1),
            nn.Conv2d(4, 8, 3),
        )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    ("operation", "replaced"), [("max_pool", 5), ("avg_pool", 5), ("identity", 3)]
)
def test_windows_of_every_kind_keep_their_size(operation: str, replaced: int) -> None:
    plain, network = Various(), parameter_free_network(Various(), operation)
    x = torch.randn(1, 4, 40, 30)
    for index, (before, after) in enumerate(zip(plain, network, strict=True)):
        assert after(x).shape == before(x).shape
        can = index < 5 and not (operation == "identity" and index > 2)
        assert isinstance(after, nn.Conv2d) != can
    assert sum(not isinstance(module, nn.Conv2d) for module in network) == replaced


def test_a_network_that_is_a_convolution_itself_is_returned_replaced() -> None:
    assert isinstance(parameter_free_network(nn.Conv2d(2, 2, 3, padding=1)), nn.MaxPool2d)


@pytest.mark.parametrize("backbone", TRANSFORMERS)
def test_every_second_attention_of_a_transformer_becomes_an_eff_layer(backbone: str) -> None:
    network = on_meta(backbone).eval()
    attentions = [name for name, module in network.named_modules() if type(module) is Attention]
    assert parameter_free_network(network) is network
    replaced = [name for name in attentions if isinstance(network.get_submodule(name), EffLayer)]
    assert replaced == attentions[1::2]
    network(torch.randn(2, *network.default_cfg["input_size"], device="meta"))
    *grid, prefix = TRANSFORMERS[backbone]
    assert layers_of(network)[0].grid_size == tuple(grid)
    assert {layer.num_prefix_tokens for layer in layers_of(network)} == {prefix}


def test_all_attentions_are_replaced_on_request() -> None:
    network = parameter_free_network(on_meta("pit_b_224"), alternate=False)
    assert not any(isinstance(module, Attention) for module in network.modules())
    assert len(layers_of(network)) == 13


def test_the_grids_of_a_pit_are_those_of_its_stages() -> None:
    network = parameter_free_network(on_meta("pit_ti_224")).eval()
    network(torch.randn(1, 3, 224, 224, device="meta"))
    grids = [layer.grid_size for layer in layers_of(network)]
    assert grids == [(27, 27)] + [(14, 14)] * 3 + [(7, 7)] * 2


def test_class_tokens_of_a_converted_transformer_skip_the_pool() -> None:
    network = parameter_free_network(
        timm.create_model("vit_tiny_patch16_224", img_size=(32, 48), depth=2, num_classes=3)
    ).eval()
    layer, seen = network.blocks[1].attn, []
    layer.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    network(torch.randn(2, 3, 32, 48))
    ((tokens, mixed),) = seen
    hidden = F.gelu(layer.qkv(tokens))
    maps = hidden[:, 1:].transpose(1, 2).unflatten(2, (2, 3))
    pooled = F.max_pool2d(maps, 3, 1, 1).flatten(2).transpose(1, 2)
    expected = layer.proj(F.gelu(torch.cat((hidden[:, :1], pooled), dim=1)))
    torch.testing.assert_close(mixed, expected)


def test_a_copy_follows_its_own_images() -> None:
    network = parameter_free_network(
        timm.create_model(
            "vit_tiny_patch16_224", img_size=32, depth=2, dynamic_img_size=True, num_classes=3
        )
    ).eval()
    other = copy.deepcopy(network)
    other(torch.randn(1, 3, 64, 32))
    network(torch.randn(1, 3, 32, 48))
    assert other.blocks[1].attn.grid_size == (4, 2)
    assert network.blocks[1].attn.grid_size == (2, 3)


def test_eff_layers_start_as_the_network_starts_its_linear_layers() -> None:
    torch.manual_seed(0)
    vit = parameter_free_network(timm.create_model("vit_tiny_patch16_224", depth=2))
    pit = parameter_free_network(timm.create_model("pit_ti_224"))
    for layer in layers_of(vit):
        assert layer.qkv.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert not layer.qkv.bias.any()
    for layer in layers_of(pit):
        std = (3 * layer.qkv.in_features) ** -0.5
        assert layer.qkv.weight.std().item() == pytest.approx(std, rel=0.05)


def test_dropout_of_the_attention_is_taken_over() -> None:
    network = parameter_free_network(on_meta("vit_tiny_patch16_224", proj_drop_rate=0.3))
    assert {layer.proj_drop.p for layer in layers_of(network)} == {0.3}


def test_where_patches_are_dropped_the_grid_is_said_to_be_lost() -> None:
    options = {"img_size": 64, "depth": 2, "patch_drop_rate": 0.5}
    network = parameter_free_network(timm.create_model("vit_tiny_patch16_224", **options)).train()
    with pytest.raises(ValueError, match="8 tokens are no map of 4x4"):
        network(torch.randn(1, 3, 64, 64))


class Tall(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (Tall(), {}, "no convolution of Tall can be replaced by max_pool; stem: it makes 8 chan"),
        (nn.Linear(2, 2), {}, "no convolution of Linear can be replaced by max_pool; it has none"),
        (Tall(), {"where": "attention"}, "no attention of Tall can be replaced; eff-layers need"),
        (Tall(), {"where": "head"}, "where is 'head'; it must be convolutions or attention"),
        (Tall(), {"operation": "conv"}, "operation is 'conv'; parameter-free ones are max_pool"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    network: nn.Module, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parameter_free_network(network, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        ("nf_resnet26", "it is a ScaledStdConv2d, not a plain convolution"),
        ("mixer_s32_224", "stem.proj: it makes 512 channels of 3"),
    ],
)
def test_a_backbone_without_such_layers_is_refused(backbone: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parameter_free_network(on_meta(backbone))


@pytest.mark.parametrize("backbone", ["crossvit_tiny_240", "mobilevit_xxs"])
def test_a_transformer_that_does_not_say_where_its_tokens_lie_is_refused(backbone: str) -> None:
    with pytest.raises(ValueError, match="eff-layers need the blocks of timm's ViT or PiT"):
        parameter_free_network(on_meta(backbone), where="attention")
