"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
# onnxruntime writes telemetry files unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread_per_worker() -> None:
    """Two test processes share two cores; more threads would only wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of this repository."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data(repository: Path) -> Path:
    """Folder with real data sets: CONVSUITE_TEST_DATA, or shared/data beside the checkout."""
    folder = Path(os.environ.get("CONVSUITE_TEST_DATA", repository.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; set CONVSUITE_TEST_DATA to a folder that has them")
    return folder
