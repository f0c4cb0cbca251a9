import pytest
import timm
import torch

from lit_models.kernel_warehouse import set_temperature, temperature
from lit_models.official import load_official, official_state

ROWS = [
    "kw_baseline_resnet18",
    "kw1d2x_resnet18",
    "kw1x_convnext_tiny",
    "kw_baseline_mobilenetv2_050",
    "kw1d2x_mobilenetv2_050",
    "kw1x_mobilenetv2_050",
    "kw4x_mobilenetv2_050",
]


def build(row: str, **options: object) -> torch.nn.Module:
    if "convnext" in row:
        options = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), **options}
    return timm.create_model(row, num_classes=10, **options).eval()


@pytest.mark.parametrize("row", ROWS)
def test_the_way_to_the_authors_names_and_back_changes_no_bit(row: str) -> None:
    torch.manual_seed(0)
    network = build(row)
    theirs = official_state(network)
    other = build(row)
    load_official(other, theirs)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(other(x), network(x))
    back = official_state(other)
    assert list(back) == list(theirs)
    assert all(torch.equal(back[key], theirs[key]) for key in theirs)


def test_reading_ends_the_annealing() -> None:
    network = build("kw1d2x_resnet18")
    set_temperature(network, 1)
    load_official(network, official_state(network))
    assert temperature(network) == 0


@pytest.mark.parametrize(
    ("row", "other", "message"),
    [
        ("kw1d2x_resnet18", "kw1d4x_resnet18", r"'warehouse_manager.weights.0' has the shape \(56"),
        ("kw1d2x_resnet18", "kw1d2x_mobilenetv2_050", "'warehouse_manager.weights.0' has"),
        ("kw1d2x_resnet18", "kw_baseline_resnet18", "they lack 'warehouse_manager.weights.0'"),
        ("kw_baseline_resnet18", "kw1d2x_resnet18", "Missing key.*layer1.0.conv1.weight"),
        ("kw1x_mobilenetv2_050", "kw4x_mobilenetv2_050", "weights.0' has the shape"),
    ],
)
def test_another_rows_weights_are_refused_in_one_line(row: str, other: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_official(build(row), official_state(build(other)))
    assert "\n" not in str(error.value)
