import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_models.metrics import MeanLoss


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
