"""What is timed against each other computes the same."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import transforms  # type: ignore[import-untyped]

from datamodules.in_memory_loader import LabelledImages
from experiments.bench.speed import (
    do_conv,
    kernel_warehouse,
    loaders,
    parameter_free,
    whole_runs,
)
from experiments.bench.speed.networks import Images, TwoForms, training_step
from lit_models.do_conv import DOConv2d
from lit_models.kernel_warehouse import kernel_layers, set_temperature
from lit_models.kernel_warehouse.mixture import per_sample_convolution


def assert_same_training(forms: TwoForms, images: Tensor, tolerance: float) -> None:
    """Both forms come to the same loss, and to the same weights after a step."""
    losses = [training_step(network, images)() for network in forms]
    torch.testing.assert_close(losses[0], losses[1], rtol=tolerance, atol=tolerance)
    for one, other in zip(*(network.parameters() for network in forms), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_kernel_warehouse_in_the_papers_form_trains_the_same() -> None:
    forms = kernel_warehouse.two_forms("kw1x_resnet18")
    for network in forms:
        set_temperature(network.double(), 0.5)
    assert all(layer.mixture is per_sample_convolution for layer in kernel_layers(forms.reference))
    assert not any(layer.mixture is per_sample_convolution for layer in kernel_layers(forms.ours))
    assert_same_training(forms, Images(4, 32).draw().double(), 1e-9)


@pytest.mark.parametrize("name", ["small", "depthwise"])
def test_do_conv_by_einsum_trains_the_same(name: str) -> None:
    torch.manual_seed(0)
    plain = do_conv.SMALL_LAYERS[name]()
    forms = do_conv.two_forms(plain)
    assert isinstance(forms.reference, do_conv.EinsumDOConv2d)
    assert type(forms.ours) is DOConv2d
    assert forms.ours.D is not None
    nn.init.normal_(forms.ours.D)
    forms.reference.load_state_dict(forms.ours.state_dict())
    assert_same_training(forms, Images(2, 8, plain.in_channels).draw(), 1e-5)


@pytest.mark.parametrize("build", [do_conv.fused, do_conv.held])
def test_fused_and_held_networks_compute_what_the_plain_one_does(
    build: Callable[[], TwoForms],
) -> None:
    forms = build()
    images = Images(2, 32).draw()
    with torch.no_grad():
        expected, obtained = (network.eval()(images) for network in forms)
    torch.testing.assert_close(expected, obtained)


def test_attention_is_written_out_in_the_reference_alone_and_gives_the_same() -> None:
    forms = parameter_free.unfused_attention("vit_ti_max")
    fused = [
        {module.fused_attn for module in network.modules() if hasattr(module, "fused_attn")}
        for network in forms
    ]
    assert fused == [{False}, {True}]
    with torch.no_grad():
        expected, obtained = (network.eval()(Images(1, 224).draw()) for network in forms)
    torch.testing.assert_close(expected, obtained, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_both_loaders_serve_the_same_images(channels: int) -> None:
    # One grey for each class: whatever is cut out, the middle stays.
    targets = torch.arange(300) % 10
    greys = (targets * 25).to(torch.uint8).view(-1, 1, 1, 1)
    data = LabelledImages(greys.expand(-1, channels, 32, 32).contiguous(), targets)
    middles = []
    for loader in (loaders.torchvision_loader(data), loaders.our_loader(data)):
        batches = list(loader)
        images, classes = (torch.cat([batch[part] for batch in batches]) for part in (0, 1))
        assert images.dtype == torch.float32
        assert len(images) == 300
        assert len(batches[0][0]) == loaders.BATCH
        middles.append(images[classes.argsort(stable=True), :, 16, 16])
    torch.testing.assert_close(*middles)
    assert len(middles[0].unique(dim=0)) == 10


@pytest.fixture
def smoke(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(repository)
    return Path("configs/smoke.yaml")


def test_a_script_and_the_command_train_an_epoch(smoke: Path) -> None:
    classifier, data = whole_runs.built(smoke)
    before = [parameter.clone() for parameter in classifier.network.parameters()]
    script = whole_runs.script_epoch(classifier, data, transforms.ToTensor(), limit=4, test=True)
    assert script > 0
    assert all(map(torch.equal, before, classifier.network.parameters()))
    options = ["--trainer.limit_train_batches", "4"]
    assert whole_runs.fit_epoch(smoke, options) > 0


def test_a_command_that_fails_says_why(smoke: Path) -> None:
    with pytest.raises(RuntimeError, match=r"configs/smoke.yaml failed: error: .*epoch"):
        whole_runs.fit_epoch(smoke, ["--trainer.max_epoch", "1"])
