import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lit_models.metrics import EvaluationMetrics, MeanLoss


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-8, 8), min_size=1, max_size=5), min_size=1, max_size=5))
def test_it_is_the_mean_over_all_samples(batches: list[list[float]]) -> None:
    metric = MeanLoss()
    for batch in batches:
        metric.update(torch.tensor(batch).mean(), len(batch))
    samples = torch.tensor([loss for batch in batches for loss in batch], dtype=torch.float64)
    assert metric.compute().item() == pytest.approx(samples.mean().item(), abs=1e-5)


def test_a_loss_that_is_not_finite_is_not_hidden() -> None:
    metric = MeanLoss()
    metric.update(torch.tensor(1.0), 3)
    metric.update(torch.tensor(float("nan")), 1)
    assert metric.compute().isnan()
    metric.reset()
    metric.update(torch.tensor(2.0), 1)
    assert metric.compute() == 2


def evaluation(num_classes: int) -> EvaluationMetrics:
    top1 = MulticlassAccuracy(num_classes, average="micro")
    return EvaluationMetrics(MetricCollection({"acc1": top1}))


def test_answers_outside_the_evaluated_classes_do_not_count_in_the_restricted_accuracy() -> None:
    metrics = evaluation(4)
    metrics.restrict(torch.tensor([1, 3]))
    # The best answers are 0, 1, 2; among classes 1 and 3 they are 3, 1, 1.
    logits = torch.tensor([[9.0, 1, 0, 2], [0, 9, 0, 2], [0, 3, 9, 2]])
    metrics.update(logits, torch.tensor([3, 1, 3]))
    counted = metrics.compute()
    assert counted["acc1"] == pytest.approx(1 / 3)
    assert counted["acc1_restricted"] == pytest.approx(2 / 3)
    metrics.reset()
    metrics.update(logits[:1], torch.tensor([3]))
    assert metrics.compute()["acc1_restricted"] == 1


def test_without_a_restriction_there_is_no_restricted_accuracy() -> None:
    metrics = evaluation(2)
    metrics.update(torch.eye(2), torch.arange(2))
    assert set(metrics.compute()) == {"acc1", "loss", "samples"}


def test_what_an_evaluation_leaves_can_be_trained_with() -> None:
    metrics = evaluation(4)
    with torch.inference_mode():
        metrics.update(torch.randn(3, 4), torch.tensor([0, 1, 2]))
        metrics.reset()
    metrics.update(torch.randn(3, 4), torch.tensor([0, 1, 2]))
    assert metrics.compute()["samples"] == 3
