"""Class activation maps by gradients.

- `grad-cam`: "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
  ICCV 2017. Gradients are averaged over the map before they meet the activations.
- `hires-cam`: "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
  networks", arXiv 2011.08891. They are not averaged: where the classifier looks at each place of
  the map with weights of its own, the average can hide all evidence. Equal to Grad-CAM where the
  map is averaged before a linear classifier.

Captum computes both for maps with channels first. Here the map of any layer, tokens too, is led
through a module that gives it so.
"""

import importlib.util
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from experiments.compose import ConfigError
from experiments.explain.layers import SpatialLayer

Method = Literal["grad-cam", "hires-cam"]
METHODS: tuple[Method, ...] = get_args(Method)

IMAGES_AT_ONCE = 8


def require_captum() -> None:
    """Raise a `ConfigError` that says how Captum is installed, if it is not."""
    if importlib.util.find_spec("captum") is None:
        raise ConfigError("explain needs captum: pip install -e '.[explain]' -c constraints.txt")


def activation_maps(
    network: nn.Module,
    layer: SpatialLayer,
    images: Tensor,
    targets: Tensor,
    method: Method = "grad-cam",
) -> Tensor:
    """Heat maps `(N, H, W)` from 0 to 1, each by its own maximum; one without evidence is all 0.

    Neither weights nor their gradients change, and no hook stays.

    Args:
        network: The network, in evaluation mode.
        layer: Whose map is looked at.
        images: Normalised images `(N, C, H, W)`.
        targets: The class of each that evidence is shown for, int64 `(N,)`.
        method: See above.
    """
    from captum.attr import LayerAttribution, LayerGradCam, LayerGradientXActivation

    view = nn.Identity()
    kind = LayerGradCam if method == "grad-cam" else LayerGradientXActivation
    attribution = kind(network, view)
    hook = network.get_submodule(layer.name).register_forward_hook(
        lambda module, args, output: layer.layout.through(view, output)
    )
    try:
        parts = (torch.split(each, IMAGES_AT_ONCE) for each in (images, targets))
        maps = [
            attribution.attribute(some, target).detach()
            for some, target in zip(*parts, strict=True)
        ]
    finally:
        hook.remove()
    evidence = torch.cat(maps).sum(dim=1, keepdim=True).relu()
    height, width = images.shape[2:]
    heat: Tensor = LayerAttribution.interpolate(evidence, (height, width), "bilinear")[:, 0]
    highest = heat.amax(dim=(1, 2), keepdim=True)
    return torch.where(highest > 0, heat / highest, 0.0)
