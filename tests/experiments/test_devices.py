from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments.devices import no_such_devices


@pytest.mark.parametrize(
    ("present", "accelerator", "devices", "says"),
    [
        (0, "gpu", 8, "row.yaml:3: trainer.accelerator is gpu, but this machine has no GPU that "),
        (1, "cuda", 2, "row.yaml:3: trainer.devices is 2, but this machine has 1 GPU; "),
        (2, "gpu", "8", "trainer.devices is 8, but this machine has 2 GPUs; give --trainer.devic"),
        (2, "gpu", 2, None),
        (2, "gpu", "auto", None),
        (0, "cpu", 99, None),
        (0, "auto", 8, None),
    ],
)
def test_devices_that_are_not_there_are_counted(
    present: int, accelerator: str, devices: Any, says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: present)
    trainer = SimpleNamespace(accelerator=accelerator, devices=devices)
    error = no_such_devices(trainer, lambda key: "row.yaml:3")
    assert (says is None and error is None) or (says or "") in str(error)
