"""What torch does to networks: copies, files, precision, compilers, several processes."""

import copy
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_swa_avg_fn

from lit_models.kernel_warehouse import (
    KWConv2d,
    install,
    kernel_layers,
    make_plan,
    set_temperature,
    temperature,
)
from lit_models.kernel_warehouse.warehouse import Warehouse


class Small(nn.Module):
    """Two warehouses, one of them shared by a 3x3, a strided 1x1 and a depthwise neighbour's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.pointwise = nn.Conv2d(8, 16, 1, stride=2)
        self.last = nn.Conv2d(16, 8, 3, padding=1)
        self.classifier = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.stem(x).relu()).relu()
        x = self.last(self.pointwise(x).relu())
        return self.classifier(x.mean((2, 3)))


def build() -> nn.Module:
    draws_from = {"depthwise": "dw", "pointwise": "dense", "last": "dense"}
    network = Small()
    install(network, make_plan(draws_from))
    set_temperature(network, 0.25)
    return network


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_every_warehouse_is_held_once(network: nn.Module) -> None:
    keys = list(network.state_dict())
    assert [key for key in keys if "cells" in key] == [
        "depthwise.warehouse.cells",
        "pointwise.warehouse.cells",
    ]
    assert [key for key in keys if "temperature" in key] == [
        "depthwise.warehouse.temperature.value"
    ]
    assert not any("assignment" in key for key in keys)
    assert sum(isinstance(module, Warehouse) for module in network.modules()) == 2


def test_a_copy_shares_among_its_layers_and_with_nobody_else(network: nn.Module, x: Tensor) -> None:
    copied = copy.deepcopy(network)
    assert torch.equal(copied(x), network(x))
    theirs = {id(parameter) for parameter in network.parameters()}
    ours = {id(parameter) for parameter in copied.parameters()}
    assert not ours & theirs
    assert {id(layer.warehouse.cells) for layer in kernel_layers(copied)} <= ours
    assert copied.last.warehouse is copied.pointwise.warehouse
    set_temperature(copied, 1)
    assert temperature(network) == 0.25


def test_weights_go_through_a_file_without_pickled_code(
    network: nn.Module, x: Tensor, tmp_path: Path
) -> None:
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    other = build().eval()
    set_temperature(other, 1)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other(x), network(x))
    assert temperature(other) == 0.25


def test_a_whole_network_goes_through_a_file(network: nn.Module, x: Tensor) -> None:
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), network(x))


@pytest.mark.parametrize("assign", [True, False])
def test_a_network_from_the_meta_device_is_right_once_loaded(
    network: nn.Module, x: Tensor, assign: bool
) -> None:
    with torch.device("meta"):
        other = build().eval()
    if not assign:
        other.to_empty(device="cpu")
        for layer in kernel_layers(other):
            layer.attention.assignment.fill_(7)  # as arbitrary as fresh memory
    other.load_state_dict(network.state_dict(), assign=assign)
    assert torch.equal(other(x), network(x))


def test_a_network_from_the_meta_device_can_be_drawn_anew(x: Tensor) -> None:
    with torch.device("meta"):
        network = build().eval()
    network.to_empty(device="cpu")
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert temperature(network) == 0
    assert network(x).isfinite().all()


@pytest.mark.parametrize("value", [1.0, 0.5, 0.0])
def test_every_parameter_gets_a_gradient_at_every_temperature(
    network: nn.Module, x: Tensor, value: float
) -> None:
    set_temperature(network.train(), value)
    network(x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("average", [get_ema_avg_fn(0.999), get_swa_avg_fn()])
def test_averages_keep_assignment_and_temperature(
    network: nn.Module, x: Tensor, average: object
) -> None:
    averaged = AveragedModel(network, avg_fn=average, use_buffers=True).eval()
    for _ in range(50):
        averaged.update_parameters(network)
    torch.testing.assert_close(averaged(x), network(x))
    assert temperature(averaged) == pytest.approx(0.25)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_attention_in_full_precision(
    network: nn.Module, x: Tensor, dtype: torch.dtype
) -> None:
    inside: list[Tensor] = []
    for layer in kernel_layers(network.train()):
        for module in (layer.attention.fc1, layer.attention.fc2, layer.attention):
            module.register_forward_hook(lambda *call: inside.append(call[2]))
    expected = network(x)
    with torch.autocast("cpu", dtype):
        y = network(x)
    assert y.dtype == dtype
    assert {tensor.dtype for tensor in inside} == {torch.float32}
    torch.testing.assert_close(y.float(), expected, rtol=0.1, atol=0.05)
    y.float().square().mean().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in network.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_whole_network_changes_its_type(
    network: nn.Module, x: Tensor, dtype: torch.dtype
) -> None:
    y = copy.deepcopy(network).to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), network(x), rtol=0.1, atol=0.05)


def test_channels_last_inputs_give_the_same(network: nn.Module, x: Tensor) -> None:
    expected = network(x)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x.to(memory_format=torch.channels_last)), expected)


def test_a_network_compiles_in_one_graph(network: nn.Module, x: Tensor) -> None:
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), network(x))
    set_temperature(compiled, 0.75)
    assert temperature(network) == 0.75
    torch.testing.assert_close(compiled(x), network(x))


def test_an_exported_network_takes_any_batch(network: nn.Module, x: Tensor) -> None:
    batch = torch.export.Dim("batch", min=1)
    exported = torch.export.export(network, (x,), dynamic_shapes=({0: batch},)).module()
    for size in (1, 3, 7):
        images = torch.randn(size, 3, 8, 8)
        torch.testing.assert_close(exported(images), network(images))


def test_the_form_for_onnx_has_a_free_batch_and_no_dynamic_convolution(
    network: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What torch.onnx.export does first: export the program with this flag up.
    with monkeypatch.context() as patch:
        patch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
        program = torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    convolutions = [node for node in program.graph.nodes if "conv2d" in str(node.target)]
    assert len(convolutions) == 1  # the static stem
    (image,) = [node for node in program.graph.nodes if node.name == "x"]
    assert isinstance(image.meta["val"].shape[0], torch.SymInt)
    for size in (1, 3, 7):
        images = torch.randn(size, 3, 8, 8)
        torch.testing.assert_close(program.module()(images), network(images))


@pytest.fixture
def one_process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process_group")
def test_distributed_training_sees_every_parameter(network: nn.Module, x: Tensor) -> None:
    wrapped = DistributedDataParallel(network.train())
    # A second step fails if the first left a parameter without a gradient.
    for _ in range(2):
        wrapped(x).square().mean().backward()
    set_temperature(wrapped, 0.5)
    assert temperature(network) == 0.5


def test_synchronised_normalisation_reaches_the_attentions(network: nn.Module) -> None:
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    assert all(
        isinstance(layer.attention.norm1, nn.SyncBatchNorm) for layer in kernel_layers(converted)
    )


def test_a_part_of_a_network_keeps_its_cells() -> None:
    network = timm.create_model("kw1x_resnet18", num_classes=3).eval()
    features = timm.create_model("kw1x_resnet18", features_only=True, out_indices=(1, 2)).eval()
    names = dict(features.named_parameters())
    assert "layer1.0.conv1.warehouse.cells" in names
    assert "layer2.0.conv2.warehouse.cells" in names
    assert len(network.layer1[0].conv1.warehouse.cells) == 56
    part = copy.deepcopy(network.layer1)
    maps = torch.randn(2, 64, 8, 8)
    assert torch.equal(part(maps), network.layer1(maps))


def test_a_layer_moves_with_its_own_cells(network: nn.Module) -> None:
    owner = KWConv2d(4, 4, 3)
    assert owner.to(torch.float64).warehouse.cells.dtype == torch.float64
    network.to(torch.float64)
    assert {layer.warehouse.cells.dtype for layer in kernel_layers(network)} == {torch.float64}
