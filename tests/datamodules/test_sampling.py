from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data.distributed_sampler import RepeatAugSampler
from torch import Tensor

from datamodules import Shuffle
from datamodules.sampling import BatchPlan, BatchRows


class TimmsOrder(Shuffle):
    """The order that timm's sampler draws in an epoch."""

    def order(self, count: int, epoch: int) -> Tensor:
        return torch.randperm(count, generator=torch.Generator().manual_seed(epoch))


def plan(count: int, batch_size: int = 7, **options: Any) -> BatchPlan:
    options = {"shuffle": TimmsOrder(0), **options}
    return BatchPlan(torch.arange(count), batch_size, **options)


def whole(batches: BatchPlan, epoch: int) -> BatchRows:
    parts = list(batches.batches(epoch))
    return BatchRows(*(torch.cat(part) for part in zip(*parts, strict=True)))


@pytest.mark.parametrize("count", [256, 300, 1000, 1024])
@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("repeats", [2, 3])
def test_repeated_augmentation_draws_what_deits_sampler_draws(
    count: int, world_size: int, repeats: int
) -> None:
    for rank in range(world_size):
        sampler = RepeatAugSampler(range(count), world_size, rank, num_repeats=repeats)
        sampler.set_epoch(5)
        ours = plan(count, rank=rank, world_size=world_size, repeats=repeats)
        assert whole(ours, 5).rows.tolist() == list(sampler)


@given(
    count=st.integers(1, 60),
    world_size=st.integers(1, 4),
    repeats=st.integers(1, 4),
    batch_size=st.integers(1, 9),
)
@settings(deadline=None, max_examples=100)
def test_no_version_of_an_image_comes_twice_unless_the_devices_need_it(
    count: int, world_size: int, repeats: int, batch_size: int
) -> None:
    options = {"world_size": world_size, "repeats": repeats}
    shares = [whole(plan(count, batch_size, rank=rank, **options), 1) for rank in range(world_size)]
    seen = [
        pair for rows, copies in shares for pair in zip(rows.tolist(), copies.tolist(), strict=True)
    ]
    assert len({len(rows) for rows, _ in shares}) == 1
    assert 0 <= len(seen) - count < world_size
    assert len(set(seen)) >= min(count, len(seen))
    assert {copy for _, copy in seen} <= set(range(repeats))


def test_versions_of_an_image_go_to_different_devices() -> None:
    shares = [
        whole(plan(256, rank=rank, world_size=3, repeats=3), 0).rows.tolist() for rank in range(3)
    ]
    full = min(map(len, shares)) - 1
    assert all(one == two == three for one, two, three in list(zip(*shares, strict=True))[:full])


def test_an_epoch_goes_on_after_the_batches_that_are_done() -> None:
    batches = plan(30, repeats=3)
    all_rows = [rows.tolist() for rows, _ in batches.batches(2)]
    assert [rows.tolist() for rows, _ in batches.batches(2, done=3)] == all_rows[3:]
    assert len(all_rows) == len(batches)


def test_evaluation_has_one_version_of_every_image() -> None:
    rows, copies = whole(plan(11, shuffle=None), 0)
    assert rows.tolist() == list(range(11))
    assert not copies.any()
