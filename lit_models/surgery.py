"""Replacing modules in a network; knows nothing about any operator."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from typing import NamedTuple

from torch import nn

# What `register_forward_hook` and its relatives fill. The dictionaries themselves move to the new
# module, because the handles that those functions returned remove hooks from these very objects.
_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
)


class Surgery(NamedTuple):
    """What `replace_modules` did.

    Attributes:
        network: The network; another object than before only if the network itself was replaced.
        replaced: Dotted names of the replaced modules in the order of `named_modules`, a shared
            module under each of its names. The name of the network itself is "".
    """

    network: nn.Module
    replaced: tuple[str, ...]


def replace_modules(
    network: nn.Module,
    predicate: Callable[[str, nn.Module], bool],
    build: Callable[[str, nn.Module], nn.Module],
) -> Surgery:
    """Put `build(name, module)` in the place of every module that `predicate` chooses.

    The network is changed in place. A module that several parents share is built once, under its
    first name, and stays shared; it is chosen if the predicate holds under any of its names. A
    new module takes over its predecessor's training mode, device, data type and hooks, and is
    frozen where the predecessor was (parameters of the same name one by one, the others if all of
    the predecessor's were). Nothing inside a chosen or a new module is looked at, and nothing is
    replaced before everything is built: if `build` raises, the network is as it was.

    Args:
        network: Any network.
        predicate: Called with the dotted name and the module.
        build: Called with the same; may return the module itself to leave it where it is.
    """
    modules = list(network.named_modules(remove_duplicate=False))
    chosen = {module for name, module in modules if predicate(name, module)}
    built: dict[nn.Module, nn.Module] = {}
    places: list[tuple[str, nn.Module]] = []
    inside_of: str | None = None
    for name, module in modules:
        # Descendants follow their ancestor directly.
        if inside_of is not None and (inside_of == "" or name.startswith(f"{inside_of}.")):
            continue
        inside_of = None
        if module in chosen:
            inside_of = name
            if module not in built:
                built[module] = build(name, module)
            if built[module] is not module:
                places.append((name, built[module]))
    for old, new in built.items():
        if new is not old:
            _take_over(old, new, network)
    for name, new in places:
        if name == "":
            network = new
        else:
            network.set_submodule(name, new, strict=True)
    return Surgery(network, tuple(name for name, _ in places))


def named_like(network: nn.Module, patterns: Sequence[str]) -> Callable[[str, nn.Module], bool]:
    """Return a predicate that chooses modules by their dotted names.

    Args:
        network: The network whose modules are chosen.
        patterns: Names, in which `*` stands for anything; a module needs to fit one of them.

    Raises:
        ValueError: If a pattern fits no module of the network.
    """
    names = [name for name, _ in network.named_modules(remove_duplicate=False)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"include: no module of {type(network).__name__} is called {pattern!r}; its parts "
                f"are {', '.join(name for name, _ in network.named_children())}"
            )
    return lambda name, _: any(fnmatchcase(name, pattern) for pattern in patterns)


def _take_over(old: nn.Module, new: nn.Module, network: nn.Module) -> None:
    """Give `new` the training mode, device, data type, frozen state and hooks of `old`."""
    new.train(old.training)
    # A module without tensors, such as a pooling, says nothing about its device.
    tensors = chain(old.parameters(), old.buffers(), network.parameters())
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
    if like is not None:
        new.to(device=like.device, dtype=like.dtype)
    _freeze_like(old, new)
    _move_hooks(old, new)


def _freeze_like(old: nn.Module, new: nn.Module) -> None:
    trained = {name: parameter.requires_grad for name, parameter in old.named_parameters()}
    all_frozen = bool(trained) and not any(trained.values())
    for name, parameter in new.named_parameters():
        if name in trained:
            parameter.requires_grad_(trained[name])
        elif all_frozen:
            parameter.requires_grad_(False)


def _move_hooks(old: nn.Module, new: nn.Module) -> None:
    for name in _HOOKS:
        hooks: dict[int, object] = getattr(old, name)
        hooks.update(getattr(new, name))
        setattr(new, name, hooks)
        # `old` may live on inside `new`; its hooks must not be called twice.
        setattr(old, name, type(hooks)())
    if old._is_full_backward_hook is not None:
        new._is_full_backward_hook = old._is_full_backward_hook
        old._is_full_backward_hook = None
