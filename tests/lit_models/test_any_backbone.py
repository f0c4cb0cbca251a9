"""Any operator on any backbone: every classifier on networks of 34 families of timm's.

The command line is `fit --model.class_path lit_models.DOConvClassifier --model.init_args.backbone
NAME` (or KWClassifier, ParameterFreeClassifier). What an operator cannot do is in `REFUSALS`, with
the reason that it gives.
"""

from typing import Any

import pytest
import timm
import torch
from timm.layers import Attention
from torch import Tensor, nn

from lit_models import DOConvClassifier, ImageClassifier, KWClassifier, ParameterFreeClassifier
from lit_models.complexity import count_parameters
from lit_models.do_conv import DOConv2d
from lit_models.kernel_warehouse import kernel_layers, set_temperature
from lit_models.parameter_free import EffLayer

BACKBONES = [
    "convnext_atto",
    "convnextv2_atto",
    "densenet121",
    "dla34",
    "dpn48b",
    "edgenext_xx_small",
    "efficientvit_b0",
    "ese_vovnet19b_dw",
    "fasternet_t0",
    "fastvit_t8",
    "ghostnet_050",
    "hrnet_w18_small",
    "lcnet_035",
    "mixer_s32_224",
    "mixnet_s",
    "mnasnet_small",
    "mobilenetv1_100",
    "mobilenetv2_035",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small_035",
    "mobilevit_xxs",
    "nfnet_l0",
    "pit_ti_224",
    "poolformer_s12",
    "pvt_v2_b0",
    "regnety_002",
    "repvgg_a0",
    "res2net50_26w_4s",
    "resnet10t",
    "resnetv2_18",
    "rexnet_100",
    "seresnext26ts",
    "tf_efficientnet_lite0",
    "vit_tiny_patch16_224",
]
REFUSALS = {
    ("densenet121", ParameterFreeClassifier): "it makes 64 channels of 3",
    ("mixer_s32_224", ParameterFreeClassifier): "it makes 512 channels of 3",
    ("poolformer_s12", ParameterFreeClassifier): "it makes 64 channels of 3",
    ("nfnet_l0", ParameterFreeClassifier): "a ScaledStdConv2d, not a plain convolution",
    ("nfnet_l0", KWClassifier): "a ScaledStdConv2d, not a plain convolution",
}


def images(network: nn.Module) -> Tensor:
    facts: dict[str, Any] = network.default_cfg
    side = facts["input_size"][1] if facts.get("fixed_input_size") else 64
    return torch.randn(2, 3, side, side)


def learns(model: ImageClassifier, x: Tensor) -> None:
    model.train()
    logits = model(x)
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()
    logits.square().mean().backward()
    silent = [name for name, p in model.network.named_parameters() if p.grad is None]
    assert not silent


def refused(backbone: str, classifier: type[ImageClassifier]) -> bool:
    reason = REFUSALS.get((backbone, classifier))
    if reason:
        with pytest.raises(ValueError, match=reason):
            classifier(backbone, num_classes=3)
    return reason is not None


@pytest.mark.parametrize("backbone", BACKBONES)
def test_do_conv_goes_on_it_and_folds_away(backbone: str) -> None:
    model = DOConvClassifier(backbone, num_classes=3)
    x = images(model.network)
    learns(model, x)
    plain = timm.create_model(backbone, num_classes=3)
    do_convs = [module for module in model.network.modules() if isinstance(module, DOConv2d)]
    assert do_convs
    more = sum(module.D.numel() for module in do_convs)
    assert count_parameters(model.network) == count_parameters(plain) + more
    with torch.no_grad():
        for module in do_convs:
            module.D.normal_(std=0.1)
        fused, unfused = model.deployed(), model.network.eval()
        plain.load_state_dict(fused.state_dict())
        torch.testing.assert_close(plain.eval()(x), unfused(x))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_kernel_warehouse_goes_on_it(backbone: str) -> None:
    if refused(backbone, KWClassifier):
        return
    model = KWClassifier(backbone, num_classes=3, cell_num_ratio=1)
    set_temperature(model.network, 0.5)
    learns(model, images(model.network))
    assert any(True for _ in kernel_layers(model.network))
    assert count_parameters(model.deployed()) == count_parameters(model.network)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_parameter_free_operations_go_on_it(backbone: str) -> None:
    if refused(backbone, ParameterFreeClassifier):
        return
    model = ParameterFreeClassifier(backbone, num_classes=3)
    learns(model, images(model.network))
    plain = timm.create_model(backbone, num_classes=3)
    now = dict(model.network.named_modules())
    replaced = {
        name: (before, now[name])
        for name, before in plain.named_modules()
        if isinstance(before, nn.Conv2d | Attention) and type(before) is not type(now[name])
    }
    assert replaced
    assert all(
        isinstance(after, EffLayer) or not count_parameters(after) for _, after in replaced.values()
    )
    difference = sum(count_parameters(a) - count_parameters(b) for b, a in replaced.values())
    assert count_parameters(model.network) == count_parameters(plain) + difference
