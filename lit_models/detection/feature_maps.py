"""Any of timm's networks as a source of feature maps, with what is frozen in it."""

from dataclasses import dataclass
from typing import Any, Self

from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# Maps that are larger than a quarter of the image's side are not used unless asked for.
_FINEST = 4


@dataclass(frozen=True)
class FeatureSettings:
    """Which feature maps of a backbone are used, and what of it is trained.

    Args:
        levels: Numbers of the maps among those that timm knows of the network (`feature_info`);
            None for all at a quarter of the image's side and below.
        final: Take the network's final features, after its last convolution and norm, for the last
            map (in MobileNetV2, 1280 channels in place of 320).
        norms: A layer normalisation of its own behind each map, as ConvNeXt's detectors have.
        frozen_levels: Freeze the stem and all up to and including the n-th map; 0 for nothing.
        frozen_norms: Keep the statistics of batch normalisation; its scales and shifts are trained.
    """

    levels: list[int] | None = None
    final: bool = False
    norms: bool = False
    frozen_levels: int = 0
    frozen_norms: bool = False


class FeatureMaps(nn.Module):
    """The feature maps of a network, finest first; what only its classifier needs is removed.

    Args:
        network: A network of timm's or ours, operators in their places; it is taken over.
        settings: Which maps, and what is frozen.

    Attributes:
        network: The network.
        channels: Channels of each map.
        reductions: Side of the image by the side of each map.
        frozen: Names of the modules that are frozen.

    Raises:
        ValueError: The network has no feature maps, or not those that are asked for.
    """

    def __init__(self, network: nn.Module, settings: FeatureSettings) -> None:
        super().__init__()
        anything: Any = network
        kind = type(network).__name__
        if not hasattr(network, "forward_intermediates") or not hasattr(network, "feature_info"):
            raise ValueError(f"{kind} gives no feature maps; timm's features_only needs them, too")
        known = [dict(level) for level in anything.feature_info]
        self.levels = _chosen(known, settings.levels, kind)
        if not 0 <= settings.frozen_levels <= len(self.levels):
            raise ValueError(
                f"frozen_levels is {settings.frozen_levels}; {kind} has {len(self.levels)} maps"
            )
        self.reductions = [int(known[level]["reduction"]) for level in self.levels]
        self.channels = [int(known[level]["num_chs"]) for level in self.levels]
        if settings.final:
            if self.levels[-1] != len(known) - 1:
                raise ValueError(
                    f"final takes the place of map {len(known) - 1}, the last of {kind}; levels is "
                    f"{self.levels}, without it"
                )
            self.channels[-1] = int(anything.num_features)
        self.network = prune(network, settings, self.levels)
        self.final = settings.final
        self.frozen_norms = settings.frozen_norms
        self.norms = nn.ModuleList(
            LayerNorm2d(count, eps=1e-6) if settings.norms else nn.Identity()
            for count in self.channels
        )
        last = known[self.levels[settings.frozen_levels - 1]]["module"]
        self.frozen = _up_to(self.network, last) if settings.frozen_levels else []
        # "" is the network itself: a transformer's positions and class token are its own.
        for name in ["", *self.frozen] if self.frozen else []:
            for parameter in self.network.get_submodule(name).parameters(recurse=False):
                parameter.requires_grad_(False)
        # Lightning leaves every module in the mode that it finds it in.
        self.train()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps `(N, channels, H / reduction, W / reduction)` of `images (N, C, H, W)`."""
        network: Any = self.network
        options = {"indices": self.levels, "output_fmt": "NCHW"}
        if self.final:
            last, maps = network.forward_intermediates(images, **options)
            maps = [*maps[:-1], last]
        else:
            maps = network.forward_intermediates(images, intermediates_only=True, **options)
        return [norm(features) for norm, features in zip(self.norms, maps, strict=True)]

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.network.get_submodule(name).training = False
        if self.frozen_norms:
            for module in self.network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def prune(network: nn.Module, settings: FeatureSettings, levels: list[int]) -> nn.Module:
    """Remove what comes after the last map, in place: nothing would train it."""
    anything: Any = network
    if settings.final:
        anything.reset_classifier(0)
    else:
        anything.prune_intermediate_layers(levels, prune_norm=True, prune_head=True)
    return network


def _chosen(known: list[dict[str, Any]], levels: list[int] | None, kind: str) -> list[int]:
    if levels is None:
        levels = [n for n, level in enumerate(known) if level["reduction"] >= _FINEST]
    if not levels or levels != sorted(set(levels)) or not set(levels) <= set(range(len(known))):
        raise ValueError(
            f"levels is {levels}; give ascending numbers from 0 to {len(known) - 1}, the maps that "
            f"{kind} has"
        )
    return levels


def _up_to(network: nn.Module, last: str) -> list[str]:
    """Names of all modules from the stem to the module `last`, in the order of their definition."""
    names = [name for name, _ in network.named_modules()]
    end = max(n for n, name in enumerate(names) if name == last or name.startswith(f"{last}."))
    # A module that holds some later ones, such as a list of stages, is not frozen as a whole.
    later = names[end + 1 :]
    return [
        name
        for name in names[: end + 1]
        if name and not any(other.startswith(f"{name}.") for other in later)
    ]
