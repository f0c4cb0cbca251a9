"""A row for runs of several processes: small, with everything that could differ between them."""

import socket
from pathlib import Path

from real_runs import REPOSITORY, SABOTEUR

# Statistics of normalisation and dropout are each process's own in training.
NETWORK = """
from torch import nn
from lit_models.registry import register_network

def tiny(num_classes=10, in_chans=1, **_):
    return nn.Sequential(
        nn.Conv2d(in_chans, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, num_classes),
    )

register_network("tiny", tiny, {"input_size": (1, 28, 28), "num_classes": 10})
"""
CONFIG = """\
base: {repository}/configs/smoke.yaml
model: {{init_args: {{backbone: tiny, optimizer: {{lr: 0.01}}}}}}
data: {{init_args: {{batch_size: 16, eval_batch_size: 50}}}}
trainer:
  accelerator: cpu
  max_epochs: 3
  limit_train_batches: 12
  enable_progress_bar: false
  enable_model_summary: false
  callbacks+:
    - {{class_path: callbacks.EMACallback, init_args: {{decay: 0.5}}}}
    - {{class_path: sabotage.Saboteur}}
"""
TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


def make_row(folder: Path) -> Path:
    """Write the row's config and what it needs; returns the config."""
    (folder / "sabotage.py").write_text(SABOTEUR + NETWORK)
    path = folder / "row.yaml"
    path.write_text(CONFIG.format(repository=REPOSITORY))
    return path


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port
