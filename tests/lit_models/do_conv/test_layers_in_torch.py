"""DO-Conv under the machinery of PyTorch: precision, devices, copies, compilers, held kernels."""

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from timm.layers import Conv2dSame, StdConv2d
from torch import Tensor, nn

from lit_models.do_conv import DOConv2d


@pytest.fixture
def layer() -> DOConv2d:
    layer = DOConv2d(4, 6, 3, padding=1, groups=2)
    nn.init.normal_(layer.D, std=0.1)
    return layer


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 4, 8, 9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_kernel_is_folded_in_the_parameters_data_type(
    layer: DOConv2d, images: Tensor, dtype: torch.dtype
) -> None:
    expected = layer(images)
    layer.to(dtype)
    assert layer.weight.dtype == layer.fuse().weight.dtype == dtype
    output = layer(images.to(dtype))
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), expected, rtol=0.05, atol=0.05)
    output.float().sum().backward()
    assert all(parameter.grad.dtype == dtype for parameter in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_the_kernel_is_folded_in_float32(
    layer: DOConv2d, images: Tensor, dtype: torch.dtype
) -> None:
    kernel = layer.weight
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(layer.weight, kernel)
        output = layer(images)
        fused = layer.fuse()
        assert torch.equal(fused(images), output)
    assert output.dtype == dtype
    assert torch.equal(fused.weight, kernel)
    output.float().sum().backward()
    assert layer.D.grad.dtype == torch.float32


def test_channels_last_gives_the_same(layer: DOConv2d, images: Tensor) -> None:
    expected = layer(images)
    layer.to(memory_format=torch.channels_last)
    output = layer(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(output, expected)


def test_a_layer_is_made_on_the_device_that_is_asked_for() -> None:
    assert DOConv2d(2, 2, 3, device="meta").W.is_meta
    with torch.device("meta"):
        layer = DOConv2d(2, 2, 3)
        assert layer(torch.empty(1, 2, 5, 5)).shape == (1, 2, 3, 3)
    assert all(parameter.is_meta for parameter in layer.parameters())
    assert layer.fuse().weight.is_meta
    layer.to_empty(device="cpu").reset_parameters()
    assert layer(torch.ones(1, 2, 5, 5)).isfinite().all()


@pytest.mark.parametrize("cls", [nn.Conv2d, Conv2dSame, StdConv2d])
def test_a_copy_and_a_pickle_compute_the_same_and_share_nothing(
    cls: type[nn.Conv2d], images: Tensor
) -> None:
    layer = DOConv2d.from_conv(cls(4, 6, 3)).eval()
    nn.init.normal_(layer.D)
    expected = layer(images)
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    for twin in copies:
        assert type(twin) is type(layer)
        assert not twin.training
        assert torch.equal(twin(images), expected)
        assert type(twin.fuse()) is cls


def test_a_subclass_of_the_layer_survives_a_pickle() -> None:
    for conv in (nn.Conv2d(2, 2, 3), Conv2dSame(2, 2, 3)):
        layer = Special.from_conv(conv)
        assert isinstance(layer, Special)
        assert type(pickle.loads(pickle.dumps(layer))) is type(layer)


class Special(DOConv2d):
    """Here, and not inside the test, because pickle must find it."""


def test_the_layer_compiles_to_one_graph(layer: DOConv2d, images: Tensor) -> None:
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), layer(images))
    compiled(images).sum().backward()
    assert layer.D.grad is not None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(images), layer(images))


def test_the_layer_is_exported_and_traced(layer: DOConv2d, images: Tensor) -> None:
    exported = torch.export.export(layer, (images,))
    assert torch.equal(exported.module()(images), layer(images))
    traced = torch.fx.symbolic_trace(nn.Sequential(layer, DOConv2d(6, 2, 1)))
    assert traced(images).shape == (2, 2, 8, 9)


@pytest.fixture
def one_process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process_group")
def test_distributed_training_finds_no_unused_parameter(images: Tensor) -> None:
    network = nn.Sequential(DOConv2d(4, 6, 3, depth_multiplier=12), DOConv2d(6, 2, 1))
    parallel = nn.parallel.DistributedDataParallel(network)
    for _ in range(2):  # a parameter without gradient is an error in the second step
        parallel(images).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


class TestHeldKernel:
    """`hold_kernel` and `release_kernel`."""

    def held(self, layer: DOConv2d) -> bool:
        """Whether a change of W goes unnoticed."""
        kernel = layer.weight.clone()
        with torch.no_grad():
            layer.W.add_(1)
        after = layer.weight
        with torch.no_grad():
            layer.W.sub_(1)
        return torch.equal(kernel, after)

    def test_it_is_used_in_evaluation_without_gradients_only(self, layer: DOConv2d) -> None:
        layer.hold_kernel()
        for training in (True, False):
            for gradients in (True, False):
                layer.train(training)
                with torch.set_grad_enabled(gradients):
                    assert self.held(layer) is (not training and not gradients)

    def test_the_output_is_bitwise_the_same(self, layer: DOConv2d, images: Tensor) -> None:
        layer.eval()
        expected = layer(images)
        layer.hold_kernel()
        with torch.inference_mode():
            assert torch.equal(layer(images), expected)

    def test_holding_again_folds_again(self, layer: DOConv2d) -> None:
        layer.eval().hold_kernel()
        with torch.no_grad():
            layer.W.add_(1)
            layer.hold_kernel()
            assert torch.equal(layer.weight, copy.deepcopy(layer).weight)

    def test_training_goes_on_after_holding_in_inference_mode(
        self, layer: DOConv2d, images: Tensor
    ) -> None:
        with torch.inference_mode():
            layer.hold_kernel()
        layer(images).sum().backward()
        layer.eval()(images).sum().backward()
        assert layer.D.grad is not None

    @torch.no_grad()
    def test_it_is_dropped_by_release_copies_pickles_loading_and_conversion(
        self, layer: DOConv2d
    ) -> None:
        layer.eval().hold_kernel()
        assert self.held(layer)
        assert list(layer.state_dict()) == ["W", "D", "bias"]
        assert not self.held(copy.deepcopy(layer))
        assert not self.held(pickle.loads(pickle.dumps(layer)))
        assert not hasattr(layer.fuse(), "_held_kernel")
        layer.load_state_dict(layer.state_dict())
        assert not self.held(layer)
        layer.hold_kernel()
        assert not self.held(layer.double())
        layer.hold_kernel()
        layer.release_kernel()
        assert not self.held(layer)
