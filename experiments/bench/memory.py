"""Memory that a call needs, counted by torch."""

import os
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile

from experiments.bench.timing import Run

# The profiler greets on stderr, and complains there where there is no GPU.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")


def peak_bytes(run: Run, device: str) -> int:
    """Return the most memory that torch holds at once during a call, beyond what it held before.

    On a GPU its allocator keeps the number. On a CPU it is summed from the allocations and releases
    that torch's profiler sees: tensors and the work space of operators.

    Args:
        run: The call, made once before, so that what stays (gradients, moments) is there already.
        device: `cpu` or `cuda`.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    changes, _ = _allocations(run)
    return max(accumulate(changes), default=0)


def kept_bytes(run: Run) -> int:
    """Return the memory that torch still holds after a call on the CPU whose result is alive.

    After a forward pass this is what waits for the backward pass, however it is kept: by autograd,
    by a function of its own, or for recomputation.

    Args:
        run: The call, made once before.
    """
    changes, result = _allocations(run)
    del result
    return sum(changes)


def _allocations(run: Run) -> tuple[list[int], object]:
    """Bytes of every allocation (positive) and release in a call, and the call's result."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = run()
    assert profiler.profiler is not None
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda e: e.start_ns())], result
