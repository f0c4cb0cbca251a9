from types import SimpleNamespace

import pytest
import torch

from callbacks.model_summary import DeployedModelSummary
from lit_models import DOConvClassifier, ImageClassifier, KWClassifier


def printed(model: ImageClassifier, capsys: pytest.CaptureFixture[str], depth: int = 1) -> str:
    trainer = SimpleNamespace(is_global_zero=True)
    DeployedModelSummary(depth).setup(trainer, model, "fit")  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_the_network_is_listed_with_its_size_in_training_and_as_deployed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = DOConvClassifier("mnist_demo_pytorch", num_classes=10, in_chans=1)
    text = printed(model, capsys)
    assert "conv3" in text
    assert "6,603" in text
    assert "3,930" in text
    assert "test_metrics" not in text


def test_deeper_modules_are_listed_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with torch.device("meta"):
        model = ImageClassifier("resnet18", num_classes=10)
    assert "layer1.0.conv1" not in printed(model, capsys)
    assert "layer1.0.conv1" in printed(model, capsys, depth=3)


def test_kernels_that_stay_plain_are_listed_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = KWClassifier("mnist_demo_tensorflow", num_classes=10, in_chans=1)
    text = " ".join(printed(model, capsys).split())
    assert "left plain, because" in text
    assert "fc" in text.split("left plain, because")[1]
