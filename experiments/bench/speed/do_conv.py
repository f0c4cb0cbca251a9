"""DO-Conv: the suite's folding against the authors' einsum, fused networks against plain ones."""

import copy
from collections.abc import Callable
from functools import partial

import timm
import torch
from torch import Tensor, nn

from experiments.bench.speed.item import Item, Measured, Rounds, Target
from experiments.bench.speed.networks import Images, TwoForms, race_evaluation, race_training
from lit_models.do_conv import DOConv2d, fuse, hold_kernels, over_parameterise
from lit_models.surgery import replace_modules

GROUP = "DO-Conv"
EINSUM = "the authors' form: the identity added to D, one einsum"
SMALL_LAYERS: dict[str, Callable[[], nn.Conv2d]] = {
    "small": lambda: nn.Conv2d(32, 32, 3, padding=1),
    "depthwise": lambda: nn.Conv2d(256, 256, 3, padding=1, groups=256),
}


class EinsumDOConv2d(DOConv2d):
    """DO-Conv that folds as the authors' code does."""

    def _fold(self) -> Tensor:
        if self.D is None:
            return super()._fold()
        area, depth_multiplier = self.D.shape[1:]
        identity = torch.eye(area, device=self.D.device, dtype=self.D.dtype)
        identity = identity.repeat(1, -(-depth_multiplier // area))[:, :depth_multiplier]
        paired = self.W.reshape(-1, self.in_channels, depth_multiplier)
        kernel = torch.einsum("ims,ois->oim", self.D + identity, paired)
        return kernel.reshape(*self.W.shape[:2], *self.kernel_size)


def two_forms(plain: nn.Module) -> TwoForms:
    """Put DO-Conv into a network, and into a copy of it the authors' form."""
    ours = over_parameterise(copy.deepcopy(plain))
    chosen = {name for name, module in ours.named_modules() if isinstance(module, DOConv2d)}

    def build(_: str, module: nn.Module) -> nn.Module:
        assert isinstance(module, nn.Conv2d)
        return EinsumDOConv2d.from_conv(module)

    reference = replace_modules(plain, lambda name, _: name in chosen, build).network
    return TwoForms(reference, ours)


def fused() -> TwoForms:
    """A plain network, and the one that DO-Conv in it is folded into."""
    plain = _resnet18()
    return TwoForms(plain, fuse(over_parameterise(copy.deepcopy(plain))).network)


def held() -> TwoForms:
    """A plain network, and one with DO-Conv whose kernels are folded once, beforehand."""
    plain = _resnet18()
    ours = over_parameterise(copy.deepcopy(plain)).eval()
    hold_kernels(ours)
    return TwoForms(plain, ours)


def items() -> list[Item]:
    """The items of this family."""
    found = []
    for images in (Images(8, 64), Images(32, 64)):
        name = f"do_conv_b{images.batch}_{images.side}"
        title = f"training step of ResNet18, {images}"
        measure = partial(_training, _resnet18, images)
        found.append(_item(name, title, EINSUM, Target(1.0), measure))
    for name, build in SMALL_LAYERS.items():
        channels = build().in_channels
        images = Images(8, 16, channels)
        title = f"training step of a {name} 3x3 layer, {channels} channels, {images}"
        measure = partial(_training, build, images)
        found.append(_item(f"do_conv_{name}", title, EINSUM, Target(1.1), measure))
    images = Images(8, 64)
    for name, build_forms in (("fused", fused), ("held", held)):
        title = f"evaluation of ResNet18, {name} kernels, {images}"
        evaluate = partial(_evaluation, build_forms, images)
        found.append(_item(f"do_conv_{name}", title, "the plain ResNet18", Target(0.98), evaluate))
    return found


def _item(
    name: str,
    title: str,
    against: str,
    target: Target,
    measure: Callable[[Rounds], Measured],
) -> Item:
    return Item(name, GROUP, title, against, "times as fast", {"default": target}, measure)


def _training(build: Callable[[], nn.Module], images: Images, rounds: Rounds) -> Measured:
    torch.manual_seed(0)
    return race_training(two_forms(build()), images, rounds)


def _evaluation(build: Callable[[], TwoForms], images: Images, rounds: Rounds) -> Measured:
    return race_evaluation(build(), images, rounds)


def _resnet18() -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = timm.create_model("resnet18")
    return network
