from collections import OrderedDict

import pytest
import torch
from torch import nn

from lit_models.surgery import named_like, replace_modules


def is_conv(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


def is_relu(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.ReLU)


def to_linear(name: str, module: nn.Module) -> nn.Module:
    return nn.Linear(2, 2)


class Shared(nn.Module):
    """Two branches share a convolution, once directly and once inside a shared block."""

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(2, 2, 1)
        self.left = nn.Sequential(conv, nn.ReLU())
        self.right = nn.Sequential(nn.Identity(), conv)
        self.again = self.left


def test_chosen_modules_are_replaced_in_place_and_named_in_order() -> None:
    network = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 1)))
    names = []

    def build(name: str, module: nn.Module) -> nn.Module:
        names.append(name)
        return nn.Linear(2, 2)

    surgery = replace_modules(network, is_conv, build)

    assert surgery.network is network
    assert surgery.replaced == ("0", "1.1") == tuple(names)
    assert [type(m) for m in network.modules() if not list(m.children())] == [
        nn.Linear,
        nn.ReLU,
        nn.Linear,
    ]


def test_a_network_that_is_itself_chosen_is_returned_anew() -> None:
    network = nn.Sequential(nn.Sequential(nn.ReLU()))
    new = nn.Identity()
    surgery = replace_modules(network, lambda name, _: name in {"", "0.0"}, lambda *_: new)
    assert surgery == (new, ("",))
    assert isinstance(network[0], nn.Sequential)


def test_nothing_chosen_changes_nothing() -> None:
    network = nn.Sequential(nn.ReLU())
    assert replace_modules(network, is_conv, to_linear) == (network, ())


def test_a_shared_module_is_built_once_stays_shared_and_is_named_everywhere() -> None:
    network = Shared()
    built = []

    def build(name: str, module: nn.Module) -> nn.Module:
        built.append(name)
        return nn.Linear(2, 2)

    surgery = replace_modules(network, is_conv, build)

    assert built == ["left.0"]
    assert surgery.replaced == ("left.0", "right.1", "again.0")
    assert network.left[0] is network.right[1] is network.again[0]
    assert isinstance(network.left[0], nn.Linear)


def test_a_shared_module_chosen_under_one_of_its_names_is_replaced_under_all() -> None:
    network = Shared()
    surgery = replace_modules(network, lambda name, _: name == "right.1", to_linear)
    assert surgery.replaced == ("left.0", "right.1", "again.0")


def test_chosen_and_new_modules_are_not_looked_into() -> None:
    network = nn.Sequential(nn.Sequential(nn.ReLU()), nn.ReLU())

    def chosen(name: str, module: nn.Module) -> bool:
        return name == "0" or is_relu(name, module)

    surgery = replace_modules(network, chosen, lambda *_: nn.Sequential(nn.ReLU(), nn.ReLU()))

    assert surgery.replaced == ("0", "1")
    assert sum(isinstance(module, nn.ReLU) for module in network.modules()) == 4


def test_a_module_that_build_returns_unchanged_is_not_reported() -> None:
    network = nn.Sequential(nn.ReLU(), nn.ReLU())
    assert replace_modules(network, is_relu, lambda _, module: module).replaced == ()


def test_the_network_is_untouched_if_a_later_build_fails() -> None:
    network = nn.Sequential(nn.ReLU(), nn.ReLU())

    def build(name: str, module: nn.Module) -> nn.Module:
        if name == "1":
            raise ValueError("cannot")
        return nn.Identity()

    with pytest.raises(ValueError, match="cannot"):
        replace_modules(network, is_relu, build)
    assert isinstance(network[0], nn.ReLU)


@pytest.mark.parametrize("training", [True, False])
def test_the_training_mode_of_each_module_is_kept(training: bool) -> None:
    network = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU())
    network[0].train(training)
    replace_modules(network, is_conv, lambda *_: nn.Sequential(nn.Dropout()))
    assert network[0].training is network[0][0].training is training


def test_device_and_data_type_are_kept() -> None:
    network = nn.Sequential(nn.Conv2d(2, 2, 1, device="meta", dtype=torch.float64))
    replace_modules(network, is_conv, to_linear)
    assert network[0].weight.device.type == "meta"
    assert network[0].weight.dtype == torch.float64


def test_a_module_without_tensors_is_replaced_on_the_networks_device() -> None:
    network = nn.Sequential(nn.Conv2d(2, 2, 1, device="meta", dtype=torch.half), nn.ReLU())
    replace_modules(network, is_relu, lambda *_: nn.PReLU())
    assert network[1].weight.device.type == "meta"
    assert network[1].weight.dtype == torch.half


def test_frozen_stays_frozen_and_trained_stays_trained() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    network[1].bias.requires_grad_(False)

    def build(name: str, module: nn.Module) -> nn.Module:
        return nn.Bilinear(2, 2, 2) if name else module

    replace_modules(network, lambda _, module: isinstance(module, nn.Linear), build)

    trained = [{n: p.requires_grad for n, p in m.named_parameters()} for m in network]
    assert trained[0] == {"weight": False, "bias": False}
    assert trained[1] == {"weight": True, "bias": False}
    assert trained[2] == {"weight": True, "bias": True}


def test_a_new_parameter_is_frozen_only_if_all_old_ones_were() -> None:
    for frozen in (True, False):
        network = nn.Sequential(nn.Linear(2, 2))
        network[0].weight.requires_grad_(False)
        network[0].bias.requires_grad_(not frozen)
        replace_modules(network, lambda name, _: name == "0", lambda *_: nn.GRUCell(2, 2))
        assert network[0].weight_ih.requires_grad is not frozen


def every_kind_of_hook(
    module: nn.Module, calls: list[str]
) -> list[torch.utils.hooks.RemovableHandle]:
    def note(name: str):
        return lambda *_: calls.append(name)

    return [
        module.register_forward_pre_hook(note("pre")),
        module.register_forward_pre_hook(note("pre, kwargs"), with_kwargs=True),
        module.register_forward_hook(note("post")),
        module.register_forward_hook(note("post, kwargs"), with_kwargs=True),
        module.register_forward_hook(note("always"), always_call=True),
        module.register_full_backward_pre_hook(note("backward pre")),
        module.register_full_backward_hook(note("backward")),
    ]


def test_every_kind_of_hook_goes_on_being_called_and_its_handle_removes_it() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    calls: list[str] = []
    handles = every_kind_of_hook(network[0], calls)
    replace_modules(network, lambda name, _: name == "0", to_linear)

    network(torch.ones(1, 2, requires_grad=True)).sum().backward()
    assert sorted(calls) == sorted(
        ["pre", "pre, kwargs", "post", "post, kwargs", "always", "backward pre", "backward"]
    )

    for handle in handles:
        handle.remove()
    calls.clear()
    network(torch.ones(1, 2, requires_grad=True)).sum().backward()
    assert calls == []


def test_hooks_are_called_with_the_new_module_and_may_change_its_output() -> None:
    network = nn.Sequential(nn.Identity())
    seen: list[nn.Module] = []
    network[0].register_forward_hook(lambda module, _, output: seen.append(module) or output + 1)
    replace_modules(network, lambda name, _: name == "0", lambda *_: nn.ReLU())
    assert network(torch.zeros(1)).item() == 1
    assert seen == [network[0]]


def test_hooks_are_called_once_where_the_old_module_lives_on_in_the_new_one() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    calls: list[str] = []
    every_kind_of_hook(network[0], calls)
    replace_modules(network, lambda name, _: name == "0", lambda _, old: nn.Sequential(old))
    network(torch.ones(1, 2, requires_grad=True)).sum().backward()
    assert len(calls) == len(set(calls)) == 7


def test_a_hook_that_the_new_module_came_with_is_kept() -> None:
    network = nn.Sequential(nn.Identity())
    calls: list[str] = []
    network[0].register_forward_hook(lambda *_: calls.append("old"))
    new = nn.Identity()
    new.register_forward_hook(lambda *_: calls.append("new"))
    replace_modules(network, lambda name, _: name == "0", lambda *_: new)
    network(torch.zeros(1))
    assert sorted(calls) == ["new", "old"]


def test_modules_are_named_by_patterns() -> None:
    network = nn.Sequential(OrderedDict(stem=nn.Linear(1, 1), body=nn.Sequential(nn.ReLU())))
    chosen = named_like(network, ["body.*"])
    assert [name for name, module in network.named_modules() if chosen(name, module)] == ["body.0"]


def test_a_pattern_that_names_nothing_is_refused() -> None:
    network = nn.Sequential(OrderedDict(stem=nn.Linear(1, 1)))
    with pytest.raises(ValueError, match=r"no module of Sequential is called 'head'.*stem"):
        named_like(network, ["stem", "head"])
