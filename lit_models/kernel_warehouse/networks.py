"""Building the papers' networks: timm's backbones, what the authors' differ in, and the plans."""

from dataclasses import fields
from typing import Any

import timm
from timm.layers import DropPath
from timm.models.efficientnet import EfficientNet
from torch import nn

from lit_models.kernel_warehouse.plans import Plan, WarehousePlan, install, make_plan
from lit_models.kernel_warehouse.published import (
    convnext_warehouses,
    deit_warehouses,
    mobilenet_v2_half_warehouses,
    mobilenet_v2_warehouses,
    resnet_warehouses,
)

# Any: timm's classes have no types.
Network = Any

_SETTINGS = {field.name for field in fields(WarehousePlan)} - {"name", "modules"}


def resnet(backbone: str, drop_path_rate: float = 0.0, **options: Any) -> Network:
    """Return timm's ResNet with the same drop path rate in all blocks and no zeroed last norms."""
    network = timm.create_model(backbone, zero_init_last=False, **options)
    if drop_path_rate > 0:
        for stage in _resnet_stages(network):
            for block in stage:
                block.drop_path = DropPath(drop_path_rate)
    return network


def resnet_baseline(backbone: str, **options: Any) -> Network:
    """Return the ResNet that the authors compare with: its classifier is drawn from N(0, 0.01)."""
    network = resnet(backbone, **options)
    _draw_classifier(network)
    return network


def kw_resnet(backbone: str, **options: Any) -> Network:
    """Return a ResNet with one warehouse for each stage; its classifier is drawn as torch does."""
    settings, options = _split(options)
    network = resnet(backbone, **options)
    stages = _resnet_stages(network)
    bottleneck = hasattr(stages[0][0], "conv3")
    draws_from = resnet_warehouses([len(stage) for stage in stages], bottleneck)
    install(network, make_plan(draws_from, **settings))
    return network


def convnext(backbone: str, **options: Any) -> Network:
    """Return timm's ConvNeXt: it is the authors' baseline."""
    network: Network = timm.create_model(backbone, **options)
    network.authors_names = "convnext"
    return network


def kw_convnext(backbone: str, **options: Any) -> Network:
    """Return a ConvNeXt that is KernelWarehouse up to its head.

    As in the authors' code, blocks work on `(N, C, H, W)` throughout, and layer scales have four
    axes (so that weight decay takes them for matrices).
    """
    settings, options = _split(options)
    network = convnext(backbone, conv_mlp=True, **options)
    for stage in network.stages:
        for block in stage.blocks:
            if block.gamma is not None:
                block.gamma = nn.Parameter(block.gamma.detach().view(1, -1, 1, 1))
    draws_from = convnext_warehouses([len(stage.blocks) for stage in network.stages])
    install(network, make_plan(draws_from, **{"norm": "layer", **settings}))
    return network


def mobilenet_v2(backbone: str, **options: Any) -> Network:
    """Return timm's MobileNetV2 with torchvision's initialisation, the authors' baseline.

    timm's rule for depthwise convolutions divides their fan-out by the groups; this one does not.
    """
    network: Network = timm.create_model(backbone, **options)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
    _draw_classifier(network)
    network.authors_names = "mobilenet_v2"
    return network


def kw_mobilenet_v2(backbone: str, pointwise_together: bool, **options: Any) -> Network:
    """Return a MobileNetV2 that is KernelWarehouse up to its classifier.

    Args:
        backbone: timm's name.
        pointwise_together: One warehouse for all pointwise convolutions of a stage, or two.
        options: Settings of the plan and timm's options.
    """
    settings, options = _split(options)
    network = mobilenet_v2(backbone, **options)
    install(network, make_plan(mobilenet_v2_warehouses(pointwise_together), **settings))
    return network


class DynamicHeadMobileNetV2(EfficientNet):
    """A MobileNetV2 whose classifier has a warehouse, whatever the number of classes."""

    classifier_plan: Plan

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; 0 classes for none."""
        super().reset_classifier(num_classes, global_pool)
        if num_classes > 0:
            install(self, self.classifier_plan)


def kw_mobilenet_v2_half(backbone: str, **options: Any) -> Network:
    """Return the 1/2x rows' MobileNetV2: fixed ratios, some static layers, a dynamic classifier."""
    network = mobilenet_v2(backbone, **options)
    # Ten warehouses: stem, depthwise 1-5, stage 6 (expanding, depthwise, projecting), classifier.
    plan = make_plan(
        mobilenet_v2_half_warehouses(),
        reduction=1 / 32,
        cell_num_ratio=(1, 1, 1, 1, 1, 1, 0.5, 1, 0.5, 0.5),
        cell_inplane_ratio=(1, 1, 1, 1, 1, 1, 0.5, 1, 0.5, 0.025),
        cell_outplane_ratio=(1, 1, 1, 1, 1, 1, 0.5, 1, 0.5, 1),
    )
    # timm's factory builds no subclasses.
    network.__class__ = DynamicHeadMobileNetV2
    network.classifier_plan = plan[-1:]
    install(network, plan if network.num_classes > 0 else plan[:-1])
    return network


def kw_deit(backbone: str, **options: Any) -> Network:
    """Return a DeiT whose blocks are KernelWarehouse; for what is inferred see its plan."""
    settings, options = _split(options)
    network: Network = timm.create_model(backbone, **options)
    draws_from = deit_warehouses(len(network.blocks))
    install(network, make_plan(draws_from, **{"norm": "layer", **settings}))
    return network


def _resnet_stages(network: Network) -> list[nn.Sequential]:
    return [network.layer1, network.layer2, network.layer3, network.layer4]


def _draw_classifier(network: Network) -> None:
    classifier = network.get_classifier()
    if isinstance(classifier, nn.Linear):
        nn.init.normal_(classifier.weight, 0, 0.01)
        nn.init.zeros_(classifier.bias)


def _split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separate settings of the plan from options of the backbone."""
    settings = {key: value for key, value in options.items() if key in _SETTINGS}
    return settings, {key: value for key, value in options.items() if key not in _SETTINGS}
