"""The ImageNet rows: a DO-Conv row is its plain row and the operator, and nothing else."""

from pathlib import Path

import pytest
import torch

from experiments.cli import build
from experiments.compose import compose, merge
from lit_models import ImageClassifier
from lit_models.optimization import build_optimizer

CONFIGS = Path(__file__).parents[3] / "configs" / "do_conv"
PAIRS = [
    (path.with_name(f"{path.stem.removesuffix('_do_conv')}.yaml"), path)
    for experiment in ("imagenet", "cifar10")
    for path in sorted((CONFIGS / experiment).glob("*_do_conv.yaml"))
]
OPERATOR = {
    "model": {"class_path": "lit_models.DOConvClassifier"},
    "trainer": {"callbacks": [{"class_path": "callbacks.DoConvFusionCallback"}]},
}


def test_every_row_has_its_pair() -> None:
    files = {
        path for experiment in ("imagenet", "cifar10") for path in CONFIGS.glob(f"{experiment}/*")
    }
    assert {path for pair in PAIRS for path in pair} == files
    assert len([pair for pair in PAIRS if pair[0].parent.name == "imagenet"]) == 20


@pytest.mark.parametrize(("plain", "do_conv"), PAIRS, ids=lambda path: path.stem)
def test_the_rows_of_a_pair_differ_in_the_operator_alone(plain: Path, do_conv: Path) -> None:
    below = compose([plain]).declared
    assert below["model"]["class_path"] == "lit_models.ImageClassifier"
    assert "callbacks" not in below["trainer"]
    assert compose([do_conv]).declared == merge(below, OPERATOR)


@pytest.mark.parametrize(
    "plain", [pair[0] for pair in PAIRS if pair[0].parent.name == "imagenet"], ids=lambda p: p.stem
)
def test_a_plain_row_says_itself_what_differs_from_row_to_row(plain: Path) -> None:
    row, shared = (file.content for file in reversed(compose([plain]).files))
    said = {"label_smoothing", "mix", "optimizer", "backbone"}
    assert said <= row["model"]["init_args"].keys()
    assert not said & shared["model"]["init_args"].keys() - {"optimizer"}
    optimizer = {"lr", "weight_decay", "decay_norm_and_bias"}
    assert row["model"]["init_args"]["optimizer"].keys() == optimizer
    assert not optimizer & shared["model"]["init_args"]["optimizer"].keys()
    assert row["trainer"].keys() == {"max_epochs", "precision"}
    assert row["data"]["init_args"].keys() == {"batch_size"}


def test_images_are_normalised_with_gluoncvs_numbers() -> None:
    recipe = compose([CONFIGS.parent / "recipes" / "gluoncv_imagenet.yaml"]).declared
    for key, published in (
        ("mean", [123.68, 116.779, 103.939]),
        ("std", [58.393, 57.12, 57.375]),
    ):
        pixels = [255 * value for value in recipe["data"]["init_args"][key]]
        assert pixels == pytest.approx(published, abs=1e-4)


@pytest.mark.parametrize(
    ("row", "undecayed"),
    [("resnet_v1_50_do_conv", {"bias", "weight"}), ("resnet_v1_101_do_conv", set())],
)
def test_d_is_decayed_like_w_and_norms_and_biases_as_the_row_says(
    row: str, undecayed: set[str]
) -> None:
    model, _ = build([CONFIGS / "imagenet" / f"{row}.yaml"])
    assert isinstance(model, ImageClassifier)
    optimizer = build_optimizer(model.network, model.optimizer_settings)
    assert isinstance(optimizer, torch.optim.SGD)
    names = {parameter: name for name, parameter in model.network.named_parameters()}
    found = {
        names[parameter]
        for group in optimizer.param_groups
        for parameter in group["params"]
        if group["weight_decay"] == 0
    }
    assert all(group["nesterov"] for group in optimizer.param_groups)
    assert {name.split(".")[-1] for name in found} == undecayed
    assert not [name for name in found if model.network.get_parameter(name).ndim > 1]
