"""The DO-Conv layer: a convolution whose kernel is the product of two trained tensors."""
# W and D are the paper's names.
# ruff: noqa: N806

import copy
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from lit_models.do_conv.kernel import draw, fold, unfold
from lit_models.do_conv.weights import translate_state

_Size = int | tuple[int, int]

# Symbolic tracing, which timm's and torchvision's feature extractors use, must not look inside.
fx.wrap("fold")


class DOConv2d(nn.Conv2d):
    """Depthwise over-parameterised convolution (DO-Conv, Section 3); a drop-in for `nn.Conv2d`.

    Input `(N, in, H, W)` and output `(N, out, H', W')` are those of `nn.Conv2d`, whose forward is
    used with the folded kernel, here called `weight`, so that every padding mode, stride and
    dilation means the same. (The authors' code swaps the two paddings in all modes but zeros; this
    does not.) `groups` switches between DO-Conv (1), DO-DConv (in_channels) and DO-GConv.

    The kernel is folded anew in each forward pass, in the parameters' data type also under
    autocast; see `hold_kernel` for evaluation. `weight` is computed: writing into it, as an
    initialisation after the fact would, has no effect.

    The state dict holds W, D and bias. Loading also takes the authors' (whose constant `d_diag` is
    checked and dropped) and a plain convolution's, whose kernel becomes W.

    Attributes:
        W: Parameter `(out, in / groups, D_mul)`.
        D: Parameter `(in, area, D_mul)`, the difference from the identity, zero at the start; None
            for 1x1 kernels, for which W is the kernel, unless `pointwise` gives them one.
        depth_multiplier: D_mul in force; 1 for 1x1 kernels without a D.
        plain: The class that `fuse` returns an instance of.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: One number or (height, width); the area is their product.
        stride: As in `nn.Conv2d`.
        padding: As in `nn.Conv2d`, 'same' and 'valid' included.
        dilation: As in `nn.Conv2d`.
        groups: As in `nn.Conv2d`.
        bias: Whether a bias is added.
        padding_mode: 'zeros', 'reflect', 'replicate' or 'circular'.
        device: Where the parameters are made.
        dtype: The parameters' data type.
        depth_multiplier: The paper's D_mul, at least the area; None is the area. Ignored for 1x1
            kernels without a D.
        pointwise: Whether a 1x1 kernel has a D too. The authors' have none.

    Raises:
        ValueError: An argument is out of its range; the message names it.
    """

    plain: ClassVar[type[nn.Conv2d]] = nn.Conv2d
    W: nn.Parameter
    D: nn.Parameter | None
    depth_multiplier: int
    _held_kernel: Tensor | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: str | _Size = 0,
        dilation: _Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        depth_multiplier: int | None = None,
        pointwise: bool = False,
    ) -> None:
        _check_at_least(
            1,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            dilation=dilation,
        )
        _check_at_least(0, padding=0 if isinstance(padding, str) else padding)
        # nn.Conv2d's own constructor would give this a kernel; here it only checks the arguments.
        conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device="meta",
            dtype=dtype,
        )
        conv.to_empty(device=torch.get_default_device() if device is None else device)
        self._adopt(conv, depth_multiplier, pointwise)
        self.reset_parameters()

    @classmethod
    def from_conv(
        cls, conv: nn.Conv2d, depth_multiplier: int | None = None, pointwise: bool = False
    ) -> Self:
        """Return a DO-Conv that computes the same as `conv` and shares no memory with it.

        For a subclass of `nn.Conv2d` the result is an instance of a subclass of both, whose forward
        is that of `conv` with the folded kernel as its `weight`.

        Args:
            conv: The convolution; training mode, device, data type and frozen parameters are kept.
            depth_multiplier: As for the layer; `kernel.unfold` says what the rest of W holds.
            pointwise: As for the layer.

        Raises:
            ValueError: `depth_multiplier` is too small, or `conv` has no kernel of its own.
        """
        if not has_own_kernel(conv):
            raise ValueError(f"{type(conv).__name__} has no kernel of its own to over-parameterise")
        if is_lazy(conv.weight):
            raise ValueError(
                "a lazy convolution has no kernel yet; run a batch through the network"
            )
        do_conv: Self = _blank(cls, type(conv))
        do_conv._adopt(conv, depth_multiplier, pointwise)
        with torch.no_grad():
            do_conv.W.copy_(unfold(conv.weight, do_conv.depth_multiplier))
        return do_conv

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # a parameter in nn.Conv2d
        """The folded kernel `(out, in / groups, height, width)`, or the held one in evaluation."""
        held = self._held_kernel
        if held is not None and not self.training and not torch.is_grad_enabled():
            return held
        return self._fold()

    def reset_parameters(self) -> None:
        """Draw W and bias as the authors do, with fan-in = in / groups * D_mul; D becomes zero."""
        draw(self.W)
        if self.D is not None:
            nn.init.zeros_(self.D)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.W[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def fuse(self) -> nn.Conv2d:
        """Return the plain convolution that computes the same; it shares no memory with this.

        It is an instance of the class that `from_conv` was given, otherwise of `nn.Conv2d`. timm's
        `reparameterize_model` looks for a method of this name.
        """
        conv = self.plain.__new__(self.plain)
        _copy_settings(self, conv)
        del conv.depth_multiplier
        for name, parameter in self._parameters.items():
            if name == "W":
                trained = any(p.requires_grad for p in (self.W, self.D) if p is not None)
                kernel = self._fold().detach().clone()
                conv.register_parameter("weight", nn.Parameter(kernel, trained))
            elif name != "D":
                conv.register_parameter(name, copy.deepcopy(parameter))
        return conv

    def hold_kernel(self) -> None:
        """Fold once and use the result until `release_kernel`.

        It is used in evaluation mode with gradients disabled, and only then. It is in no state
        dict, no copy and no pickle; loading, moving or converting the layer drops it, but other
        changes of the parameters go unnoticed.
        """
        with torch.no_grad():
            self._held_kernel = self._fold()

    def release_kernel(self) -> None:
        """Fold in each forward pass again."""
        self._held_kernel = None

    def extra_repr(self) -> str:
        """Return what `nn.Conv2d` shows, and the depth multiplier."""
        shown = str(super().extra_repr())  # type: ignore[no-untyped-call]
        return shown if self.D is None else f"{shown}, depth_multiplier={self.depth_multiplier}"

    def _adopt(self, conv: nn.Conv2d, depth_multiplier: int | None, pointwise: bool) -> None:
        """Become a DO-Conv with all that `conv` has but its kernel; W is left to be filled."""
        _copy_settings(conv, self)
        area = math.prod(self.kernel_size)
        has_D = area > 1 or pointwise
        self.depth_multiplier = _checked_depth_multiplier(depth_multiplier, area) if has_D else 1
        kernel = conv.weight
        W = kernel.new_empty(*kernel.shape[:2], self.depth_multiplier)
        D = kernel.new_zeros(self.in_channels, area, self.depth_multiplier)
        for name, parameter in conv._parameters.items():
            if name != "weight":
                self.register_parameter(name, copy.deepcopy(parameter))
                continue
            # In its place, because the order in the authors' state dicts is W, D, bias.
            self.register_parameter("W", nn.Parameter(W, kernel.requires_grad))
            D_or_none = nn.Parameter(D, kernel.requires_grad) if has_D else None
            self.register_parameter("D", D_or_none)

    def _fold(self) -> Tensor:
        if self.D is None:
            return self.W.reshape(
                self.out_channels, self.in_channels // self.groups, *self.kernel_size
            )
        return fold(self.W, self.D, self.kernel_size)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        state.pop("_held_kernel", None)
        return state

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.release_kernel()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        self.release_kernel()
        error_msgs += translate_state(state_dict, prefix, self.W, self.D, self.kernel_size)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def has_own_kernel(module: nn.Module) -> bool:
    """Whether `module` is a 2-d convolution with a kernel that DO-Conv can stand in for.

    Not so if it is DO-Conv already, or if its kernel is not a parameter of its own, because a
    parametrization, pruning or weight normalisation computes it.
    """
    return (
        isinstance(module, nn.Conv2d)
        and not isinstance(module, DOConv2d)
        and isinstance(module._parameters.get("weight"), nn.Parameter)
    )


@functools.cache
def _class_over(base: Any, plain: Any) -> Any:
    """Return the subclass of `base`, a DO-Conv, that has the forward of `plain`."""
    if plain is base.plain:
        return base

    def reduce(self: DOConv2d) -> tuple[Any, ...]:
        # Pickle finds classes by name, and this one is nowhere to be found.
        return _blank, (base, plain), self.__getstate__()

    members = {"plain": plain, "__reduce__": reduce, "__doc__": base.__doc__}
    return type(f"DO{plain.__name__}", (base, plain), members)


def _blank(base: Any, plain: Any) -> Any:
    cls = _class_over(base, plain)
    return cls.__new__(cls)


def _copy_settings(source: nn.Module, target: nn.Module) -> None:
    """Give a blank module everything of another but its class, parameters and hooks."""
    nn.Module.__init__(target)
    target.training = source.training
    target._buffers = copy.deepcopy(source._buffers)
    target._non_persistent_buffers_set = set(source._non_persistent_buffers_set)
    target._modules = copy.deepcopy(source._modules)
    for name, value in source.__getstate__().items():  # type: ignore[no-untyped-call]
        target.__dict__.setdefault(name, value)


def _checked_depth_multiplier(asked: int | None, area: int) -> int:
    if asked is None:
        return area
    if not isinstance(asked, int) or asked < area:
        raise ValueError(
            f"depth_multiplier is {asked}; it must be an integer of at least the kernel area, "
            f"{area}, or None for just that"
        )
    return asked


def _check_at_least(minimum: int, **sizes: _Size) -> None:
    for name, size in sizes.items():
        if min(size if isinstance(size, tuple | list) else (size,)) < minimum:
            raise ValueError(f"{name} is {size}; it must be at least {minimum}")
