"""How the processes of a run are started, and what they agree on before torch connects them.

One process starts the others (Lightning), or something outside starts all of them (torchrun, srun).
The first one chooses the run's folder; the others must be told.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch._C._distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from experiments.compose import ConfigError
from experiments.slurm import slurm_run_id

# The first process tells the ones that it starts itself what it has chosen.
_CHOSEN = "CONVSUITE_RUN"
_KEY = "convsuite/run"
_stores: list[Store] = []


def agree(choose: Callable[[], list[Any]]) -> list[Any]:
    """What `choose` returns in the first process (JSON values), in all processes of the run.

    Raises:
        ConfigError: Several nodes are started in a way that leaves no means to agree.
    """
    place = _place_in_job()
    if place is None:
        if _CHOSEN in os.environ and "LOCAL_RANK" in os.environ:
            _end_with_parent()
        else:
            os.environ[_CHOSEN] = json.dumps(choose())
        return _list(os.environ[_CHOSEN])
    rank, world_size = place
    store, _, _ = next(rendezvous("env://", rank, world_size))
    # Lightning's process group will use this server; it must live until then.
    _stores.append(store)
    if rank == 0:
        store.set(_KEY, json.dumps(choose()))
    return _list(store.get(_KEY))


def forget() -> None:
    """Let the next run of this process choose anew."""
    os.environ.pop(_CHOSEN, None)


def _list(text: str | bytes) -> list[Any]:
    values: list[Any] = json.loads(text)
    return values


def _end_with_parent() -> None:
    """Let the kernel end this process when the one that started it has ended.

    Else it would wait for the GPU of that process until a timeout.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _place_in_job() -> tuple[int, int] | None:
    """Rank and number of processes, where something outside has started more than one."""
    environment: TorchElasticEnvironment | SLURMEnvironment
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
    elif slurm_run_id() is not None:
        environment = SLURMEnvironment()
        # Asking for them sets the variables that the rendezvous reads.
        _ = environment.main_address, environment.main_port
    elif os.environ.get("NODE_RANK", "0") != "0":
        raise ConfigError(
            "NODE_RANK is set, but neither torchrun nor srun has started this process; start "
            "several nodes as configs/scale/multi_node.yaml says"
        )
    else:
        return None
    if environment.world_size() == 1:
        return None
    return environment.global_rank(), environment.world_size()
