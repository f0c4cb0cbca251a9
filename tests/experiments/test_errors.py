import errno

import pytest
import torch

from experiments.errors import is_lost_peer, one_line


def test_too_little_memory_says_what_to_lower() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert one_line(error.value) == (
        "out of memory (wanted 4611686018427387904 bytes more); halve --data.init_args.batch_size "
        "and double --trainer.accumulate_grad_batches, which is the same batch, or compute in less "
        "precision (--trainer.precision bf16-mixed)"
    )
    gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a ...")
    assert one_line(gpu).startswith("out of memory (wanted 2.50 GiB more); halve --data")
    assert one_line(MemoryError()).startswith("out of memory; halve --data")


def test_a_full_disk_says_where() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "runs/last.ckpt")
    assert one_line(full).startswith("no space left on the disk at runs/last.ckpt; free some")


def test_a_worker_that_died_says_what_to_lower() -> None:
    died = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    assert "a process that loads data has died (DataLoader worker (pid 7)" in one_line(died)
    assert "lower --data.init_args.num_workers" in one_line(died)


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        ("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711", True),
        ("[../gloo/transport/tcp/pair.cc:534] Read error: Connection reset by peer", True),
        ("loss is nan at step 3", False),
    ],
)
def test_whose_fault_it_is_that_another_process_is_gone(message: str, lost: bool) -> None:
    error = RuntimeError(message)
    assert is_lost_peer(error) == lost
    assert one_line(error).startswith("another process of this run has ended") == lost
    assert is_lost_peer(torch.distributed.DistBackendError("NCCL error: remote process exited"))
