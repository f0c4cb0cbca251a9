import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from experiments.bench.memory import kept_bytes, peak_bytes

MIB = 2**20


def test_peak_is_the_most_that_is_held_at_once() -> None:
    def run() -> None:
        first = torch.empty(MIB, dtype=torch.uint8)
        second = torch.empty(2 * MIB, dtype=torch.uint8)
        del first, second
        torch.empty(MIB, dtype=torch.uint8)

    assert peak_bytes(run, "cpu") == 3 * MIB


def test_kept_is_what_the_backward_pass_waits_for() -> None:
    x = torch.ones(MIB // 4, requires_grad=True)
    # sin keeps its input, which is there already; exp keeps its output.
    assert kept_bytes(lambda: x.sin().sum()) < 1024
    assert kept_bytes(lambda: x.exp().exp().sum()) == pytest.approx(2 * MIB, abs=1024)


def test_what_is_recomputed_is_not_counted_as_kept() -> None:
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(4)))
    x = torch.ones(1024, 64)
    whole = kept_bytes(lambda: layers(x).sum())
    recomputed = kept_bytes(lambda: checkpoint(layers, x, use_reentrant=False).sum())
    assert whole > 1024 * 64 * 4 * 4
    assert recomputed < whole / 4
