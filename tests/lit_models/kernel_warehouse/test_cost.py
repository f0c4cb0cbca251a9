import pytest
import timm
import torch
from torch import Tensor

from lit_models.kernel_warehouse import kernel_layers, set_mixture
from lit_models.kernel_warehouse.cost import cells_at_a_time, fastest_form, samples_at_a_time
from lit_models.kernel_warehouse.geometry import Geometry
from lit_models.kernel_warehouse.module import KWClassifier

WIDE = Geometry((512, 512, 3, 3), (1, 1), (1, 1), (1, 1), 1, 9, 1, 1)
MIDDLE = Geometry((256, 256, 3, 3), (1, 1), (1, 1), (1, 1), 1, 9, 1, 1)
NARROW = Geometry((64, 64, 3, 3), (1, 1), (1, 1), (1, 1), 1, 9, 1, 1)
DEPTHWISE = Geometry((960, 1, 3, 3), (1, 1), (1, 1), (1, 1), 960, 9, 1, 1)


@pytest.mark.parametrize(
    ("geometry", "num_cells", "channels", "side", "form"),
    [
        (WIDE, 27, 512, 2, "input"),
        (WIDE, 27, 512, 4, "input"),
        (NARROW, 56, 64, 16, "grouped"),
        (DEPTHWISE, 27, 960, 2, "grouped"),
    ],
)
def test_wide_layers_on_small_maps_mix_inputs(
    geometry: Geometry, num_cells: int, channels: int, side: int, form: str
) -> None:
    cells = torch.empty(num_cells, geometry.kernel[0], geometry.kernel[1], 1, 1)
    assert fastest_form(torch.empty(8, channels, side, side), cells, geometry) == form


@pytest.mark.parametrize(
    ("batch", "side", "form"),
    [(1, 8, "grouped"), (2, 8, "grouped"), (8, 8, "kernel"), (8, 14, "grouped")],
)
def test_kernels_are_mixed_in_chunks_where_a_batch_of_them_is_large(
    batch: int, side: int, form: str
) -> None:
    cells = torch.empty(47, 256, 256, 1, 1)
    assert fastest_form(torch.empty(batch, 256, side, side), cells, MIDDLE) == form


@pytest.mark.parametrize(("batch", "side"), [(2, 8), (8, 8), (32, 7)])
def test_where_a_few_samples_have_fewer_pieces_than_there_are_cells_inputs_are_mixed(
    batch: int, side: int
) -> None:
    cells = torch.empty(27, 512, 512, 1, 1)
    assert fastest_form(torch.empty(batch, 512, side, side), cells, WIDE) == "input"


@pytest.mark.parametrize(("side", "form"), [(2, "input"), (4, "grouped")])
def test_one_sample_mixes_inputs_only_where_that_is_less_work(side: int, form: str) -> None:
    cells = torch.empty(27, 512, 512, 1, 1)
    assert fastest_form(torch.empty(1, 512, side, side), cells, WIDE) == form


def test_the_meta_device_gets_the_papers_form_whose_operations_are_counted() -> None:
    cells = torch.empty(27, 512, 512, 1, 1, device="meta")
    assert fastest_form(torch.empty(8, 512, 2, 2, device="meta"), cells, WIDE) == "grouped"


def test_a_chunk_holds_one_sample_at_least() -> None:
    assert samples_at_a_time(2**40) == 1
    assert samples_at_a_time(2**20) > 1


def test_a_block_holds_one_cell_at_least() -> None:
    assert cells_at_a_time(2**40) == 1
    assert cells_at_a_time(2**18) > 1


# Four training steps of a whole network in double precision.
@pytest.mark.slow
def test_whole_networks_agree_in_all_forms() -> None:
    torch.manual_seed(0)
    network = timm.create_model("kw1x_resnet18", num_classes=5).double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    found: dict[str, dict[str, Tensor]] = {}
    for form in ("grouped", "kernel", "input", "auto"):
        set_mixture(network, form)
        network.zero_grad()
        logits = network(x)
        logits.square().sum().backward()
        gradients = {key: p.grad.clone() for key, p in network.named_parameters()}
        found[form] = {"logits": logits.detach(), **gradients}
    papers = found.pop("grouped")
    for ours in found.values():
        for key, expected in papers.items():
            atol = 1e-8 * expected.abs().max().item() + 1e-12
            torch.testing.assert_close(ours[key], expected, rtol=0, atol=atol)


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'fast'.*auto, grouped, kernel, input"):
        set_mixture(torch.nn.Identity(), "fast")


@pytest.mark.parametrize("backbone", ["resnet10t", "kw1x_mobilenetv2_050"])
def test_the_classifier_sets_the_form_of_all_layers(backbone: str) -> None:
    with torch.device("meta"):
        network = KWClassifier(backbone, mixture="input", num_classes=3).network
    layers = list(kernel_layers(network))
    assert layers
    assert {layer.mixture.keywords["form"] for layer in layers} == {"input"}
