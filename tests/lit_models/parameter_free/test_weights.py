import pytest
import timm
import torch

from lit_models.official import load_official, official_state

RESNET = {"layers": (1, 1, 1, 1), "channels": (4, 8, 8, 8)}
ROWS: dict[str, dict[str, object]] = {
    "pf_baseline_resnet50": RESNET,
    "resnet50_max": RESNET,
    "resnet50_hybrid": RESNET,
    "vit_ti_max": {"depth": 2, "embed_dim": 12, "img_size": 64},
    "pit_ti_max": {"depth": (2, 1, 1), "base_dims": (4, 4, 4)},
}


def build(row: str) -> torch.nn.Module:
    return timm.create_model(row, num_classes=10, **ROWS[row]).eval()


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


def test_their_pooled_convolutions_have_an_index_more() -> None:
    keys = official_state(build("resnet50_hybrid")).keys()
    assert {key.rsplit(".", 1)[0] for key in keys if "layer2" in key} == {
        "layer2.0.reduction_block.0",
        "layer2.0.reduction_block.1",
        "layer2.0.conv_block.1.0",
        "layer2.0.conv_block.1.1",
        "layer2.0.expansion_block.0",
        "layer2.0.expansion_block.1",
        "layer2.0.downsample.0",
        "layer2.0.downsample.1",
    }
    assert not any("layer1.0.conv_block" in key for key in keys)


def test_timms_resnet50_has_the_baselines_names() -> None:
    with torch.device("meta"):
        ours, theirs = timm.create_model("pf_baseline_resnet50"), timm.create_model("resnet50")
    ours.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize(
    ("row", "other", "message"),
    [
        ("resnet50_max", "resnet50_hybrid", "they have 'layer2.0.conv_block.1.0.weight' besides"),
        ("resnet50_hybrid", "resnet50_max", "they lack 'layer2.0.conv_block.1.0.weight'"),
        ("pf_baseline_resnet50", "resnet50_hybrid", "they lack 'layer1.0.conv_block.0.weight'"),
        ("vit_ti_max", "pit_ti_max", "their 'pos_embed' has the shape"),
    ],
)
def test_another_rows_weights_are_refused_in_one_line(row: str, other: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_official(build(row), official_state(build(other)))
    assert "\n" not in str(error.value)
