"""Putting DO-Conv into a network and taking it out again (DO-Conv, Section 3)."""

import copy
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lit_models.do_conv.kernel import draw_depthwise
from lit_models.do_conv.layers import DOConv2d, has_own_kernel
from lit_models.surgery import replace_modules

Include = Callable[[str, nn.Module], bool]
Initialisation = Literal["identity", "random"]


class OutputDifference(NamedTuple):
    """How far the outputs of two networks lie apart.

    Attributes:
        absolute: The largest absolute difference of two output values.
        relative: The same divided by the largest absolute value of the expected outputs.
    """

    absolute: float
    relative: float

    def joined(self, other: "OutputDifference") -> Self:
        """Return the larger of each of the two numbers; not-a-number counts as the largest."""
        pairs = zip(self, other, strict=True)
        return type(self)(*(a if a >= b or math.isnan(a) else b for a, b in pairs))

    def widened(self, expected: Any, obtained: Any) -> Self:
        """Return this joined with the difference of two outputs: tensors, or nests of them."""
        wanted, got = _flat(expected), _flat(obtained)
        absolute = (got - wanted).abs().max().item()
        # Outputs that are all zero have no scale.
        scale = wanted.abs().max().item() or 1.0
        return self.joined(OutputDifference(absolute, absolute / scale))


class Fusion(NamedTuple):
    """What `fuse` made.

    Attributes:
        network: The plain network, in evaluation mode.
        replaced: Dotted names of the convolutions that were DO-Conv.
        difference: Between the outputs of both networks, if `fuse` was given images.
    """

    network: nn.Module
    replaced: tuple[str, ...]
    difference: OutputDifference | None


def over_parameterise(
    network: nn.Module,
    *,
    depth_multiplier: int | None = None,
    include: Include | None = None,
    pointwise: bool = False,
    initialisation: Initialisation = "identity",
) -> nn.Module:
    """Put DO-Conv in the place of every convolution with a kernel larger than 1x1.

    The network computes the same as before. 1x1 convolutions stay, unless `pointwise` says
    otherwise: DO-Conv leaves them as they are. So does a convolution whose kernel is computed (by a
    parametrization, say), and one whose kernel another module shares, unless all that share it are
    replaced and can share W and D.

    Args:
        network: Any network; changed in place.
        depth_multiplier: The paper's D_mul, at least the area of every kernel; None is the area.
        include: Called with the dotted name and the convolution; False leaves it as it is.
        pointwise: Give 1x1 convolutions a D too.
        initialisation: What D and the constant identity add up to at the start: the "identity", as
            in the paper, or "random" numbers, and then the network starts from another function.

    Returns:
        The network; another object than before only if it was a convolution itself.

    Raises:
        ValueError: There is nothing to replace or no such initialisation, a kernel's area is larger
            than `depth_multiplier`, or a lazy convolution does not know its channels yet.
    """
    if initialisation not in ("identity", "random"):
        raise ValueError(f"initialisation is {initialisation!r}; it must be identity or random")
    replaceable = _replaceable(network, include, pointwise)
    first_of: dict[Tensor, DOConv2d] = {}

    def build(name: str, conv: nn.Module) -> nn.Module:
        assert isinstance(conv, nn.Conv2d)
        try:
            do_conv = DOConv2d.from_conv(conv, depth_multiplier, pointwise)
        except ValueError as error:
            raise ValueError(f"cannot over-parameterise {name or 'the network'}: {error}") from None
        first = first_of.setdefault(conv.weight, do_conv)
        do_conv.W, do_conv.D = first.W, first.D
        _share_parameters(conv, do_conv)
        return do_conv

    surgery = replace_modules(network, lambda _, module: module in replaceable, build)
    if not surgery.replaced:
        larger = "" if pointwise else " larger than 1x1"
        raise ValueError(f"nothing to over-parameterise: no convolution{larger} was chosen")
    if initialisation == "random":
        for do_conv in first_of.values():
            if do_conv.D is not None:
                draw_depthwise(do_conv.D)
    return surgery.network


def fuse(network: nn.Module, images: Tensor | None = None) -> Fusion:
    """Return a copy of the network in which every DO-Conv is folded into a plain convolution.

    Module types, state-dict keys and shapes of the copy are those of the plain network.

    Args:
        network: A network with DO-Conv; it is not touched.
        images: A batch `(N, C, H, W)` to compare the outputs of both networks on.

    Raises:
        ValueError: The network holds no DO-Conv.
    """
    if not any(isinstance(module, DOConv2d) for module in network.modules()):
        raise ValueError("nothing to fuse: the network holds no DO-Conv")
    kernels: dict[tuple[Tensor, Tensor | None], Tensor] = {}

    def build(_: str, do_conv: nn.Module) -> nn.Module:
        assert isinstance(do_conv, DOConv2d)
        conv = do_conv.fuse()
        conv.weight = kernels.setdefault((do_conv.W, do_conv.D), conv.weight)
        _share_parameters(do_conv, conv)
        return conv

    plain = copy.deepcopy(network).eval()
    plain, replaced = replace_modules(plain, lambda _, m: isinstance(m, DOConv2d), build)
    difference = None if images is None else output_difference(network, plain, images)
    return Fusion(plain, replaced, difference)


@torch.no_grad()
def output_difference(network: nn.Module, fused: nn.Module, images: Tensor) -> OutputDifference:
    """Return how far the outputs of two networks in evaluation mode lie apart.

    Neither network is touched: one that is not in evaluation mode is copied.

    Args:
        network: The network whose outputs are expected.
        fused: The network that should give the same.
        images: A batch `(N, C, H, W)` on the networks' device.
    """
    expected, obtained = (_in_evaluation(each)(images) for each in (network, fused))
    return OutputDifference(0.0, 0.0).widened(expected, obtained)


def hold_kernels(network: nn.Module) -> None:
    """Fold each DO-Conv of the network once, until `release_kernels`; see `DOConv2d.hold_kernel`.

    Call it again after the parameters have changed.
    """
    for module in network.modules():
        if isinstance(module, DOConv2d):
            module.hold_kernel()


def release_kernels(network: nn.Module) -> None:
    """Let each DO-Conv of the network fold in every forward pass again."""
    for module in network.modules():
        if isinstance(module, DOConv2d):
            module.release_kernel()


def _replaceable(network: nn.Module, include: Include | None, pointwise: bool) -> set[nn.Module]:
    """The chosen convolutions, less those whose kernel another module needs as it is."""
    chosen = {
        module
        for name, module in network.named_modules(remove_duplicate=False)
        if isinstance(module, nn.Conv2d)
        and has_own_kernel(module)
        and (pointwise or module.kernel_size != (1, 1))
        and (include is None or include(name, module))
    }
    users: dict[Tensor, set[nn.Module]] = defaultdict(set)
    for module in network.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                users[parameter].add(module)
    return {
        conv
        for conv in chosen
        if users[conv.weight] <= chosen
        and all(user.groups == conv.groups for user in users[conv.weight])
    }


def _share_parameters(old: nn.Module, new: nn.Module) -> None:
    """Keep parameters that both have the same objects, which other modules may share."""
    for name, parameter in old._parameters.items():
        if name in new._parameters:
            new.register_parameter(name, parameter)


def _in_evaluation(network: nn.Module) -> nn.Module:
    if any(module.training for module in network.modules()):
        return copy.deepcopy(network).eval()
    return network


def _flat(outputs: Any) -> Tensor:
    leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
    return torch.cat([leaf.detach().double().cpu().flatten() for leaf in leaves])
