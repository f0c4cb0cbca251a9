"""The ImageNet rows, registered with timm under the authors' configuration names.

Dropout and drop path are 0 unless asked for: each row's rates are in its configuration. timm has
networks under the baselines' names that start and drop paths by other rules, so the authors' are
registered as `kw_baseline_...`.
"""

from collections.abc import Callable
from typing import Any

from lit_models.backbones import CIFAR_FACTS
from lit_models.kernel_warehouse.networks import (
    convnext,
    kw_convnext,
    kw_deit,
    kw_mobilenet_v2,
    kw_mobilenet_v2_half,
    kw_resnet,
    mobilenet_v2,
    resnet_baseline,
)
from lit_models.registry import register_network

_QUARTER = {"cell_num_ratio": 1 / 4, "cell_inplane_ratio": 1 / 2, "cell_outplane_ratio": 1 / 2}
_HALF = {"cell_num_ratio": 1 / 2, "cell_inplane_ratio": 1 / 2, "cell_outplane_ratio": 1 / 2}

_RESNET = {"pool_size": (7, 7), "first_conv": "conv1", "classifier": "fc"}
_CONVNEXT = {"pool_size": (7, 7), "first_conv": "stem.0", "classifier": "head.fc"}
_MOBILENET = {
    "pool_size": (7, 7),
    "first_conv": "conv_stem",
    "classifier": "classifier",
    "interpolation": "bilinear",
}
_DEIT = {
    "fixed_input_size": True,
    "crop_pct": 0.9,
    "first_conv": "patch_embed.proj",
    "classifier": "head",
}
# timm looks for a plain weight under these names.
_DYNAMIC_STEM = {"first_conv": ()}
_DYNAMIC_HEAD = {"classifier": ()}

# How timm's factory extracts features; as its own entry points say it for these backbones.
_FEATURES: dict[Callable[..., Any], dict[str, Any]] = {
    convnext: {"out_indices": (0, 1, 2, 3), "flatten_sequential": True},
    kw_convnext: {"out_indices": (0, 1, 2, 3), "flatten_sequential": True},
    mobilenet_v2: {"feature_cls": "getter"},
    kw_mobilenet_v2: {"feature_cls": "getter"},
    kw_mobilenet_v2_half: {"feature_cls": "getter"},
    kw_deit: {"out_indices": 3, "feature_cls": "getter"},
}


def _register(
    name: str, build: Callable[..., Any], backbone: str, facts: dict[str, Any], **settings: Any
) -> None:
    register_network(name, build, facts, _FEATURES.get(build), backbone=backbone, **settings)


_register("kw_baseline_resnet18", resnet_baseline, "resnet18", _RESNET)
# Published with 4.08 M parameters; the authors' code and configuration build 4,031,768.
_register("kw1d4x_resnet18", kw_resnet, "resnet18", _RESNET, **_QUARTER)
_register("kw1d2x_resnet18", kw_resnet, "resnet18", _RESNET, **_HALF)
_register("kw1x_resnet18", kw_resnet, "resnet18", _RESNET, cell_num_ratio=1)
_register("kw2x_resnet18", kw_resnet, "resnet18", _RESNET, cell_num_ratio=2)
_register("kw4x_resnet18", kw_resnet, "resnet18", _RESNET, cell_num_ratio=4)

_register("kw_baseline_resnet50", resnet_baseline, "resnet50", _RESNET)
_register("kw1d2x_resnet50", kw_resnet, "resnet50", _RESNET, nonlocal_basis_ratio=1 / 16, **_HALF)
_register("kw1x_resnet50", kw_resnet, "resnet50", _RESNET, cell_num_ratio=1)
_register("kw4x_resnet50", kw_resnet, "resnet50", _RESNET, cell_num_ratio=4)

_register("kw_baseline_convnext_tiny", convnext, "convnext_tiny", _CONVNEXT)
_register("kw1x_convnext_tiny", kw_convnext, "convnext_tiny", {**_CONVNEXT, **_DYNAMIC_STEM})

for _width in ("050", "100"):
    _name, _facts = f"mobilenetv2_{_width}", {**_MOBILENET, **_DYNAMIC_STEM}
    _register(f"kw_baseline_{_name}", mobilenet_v2, _name, _MOBILENET)
    _register(f"kw1d2x_{_name}", kw_mobilenet_v2_half, _name, {**_facts, **_DYNAMIC_HEAD})
    _register(
        f"kw1x_{_name}", kw_mobilenet_v2, _name, _facts, pointwise_together=True, cell_num_ratio=1
    )
    _register(
        f"kw4x_{_name}", kw_mobilenet_v2, _name, _facts, pointwise_together=False, cell_num_ratio=4
    )

# This suite's own, for 32x32 images.
for _name, _settings in (
    ("kw1d2x_resnet18_cifar", _HALF),
    ("kw1x_resnet18_cifar", {"cell_num_ratio": 1}),
    ("kw4x_resnet18_cifar", {"cell_num_ratio": 4}),
):
    _register(_name, kw_resnet, "resnet18_cifar", {**_RESNET, **CIFAR_FACTS}, **_settings)

_register("kw1x_deit_tiny", kw_deit, "deit_tiny_patch16_224", _DEIT, cell_num_ratio=1)
_register("kw4x_deit_tiny", kw_deit, "deit_tiny_patch16_224", _DEIT, cell_num_ratio=4)
