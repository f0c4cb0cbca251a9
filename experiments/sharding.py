"""Networks too large for one device: weights, gradients and optimiser state in shards (FSDP2)."""

from typing import Any

from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy

from callbacks import DoConvFusionCallback
from callbacks.histograms import Histograms

_NEED_WHOLE_WEIGHTS = (DoConvFusionCallback, Histograms, WeightAveraging)


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's FSDP2 strategy with all devices in one group; `ImageClassifier` knows its part.

    A checkpoint is one file with whole weights, as that of any other run, and held to the same.

    Raises:
        ValueError: The run has a callback that works on whole weights.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Connect the devices."""
        trainer: Any = self.lightning_module.trainer if self.lightning_module else None
        for callback in getattr(trainer, "callbacks", []):
            if isinstance(callback, _NEED_WHOLE_WEIGHTS):
                raise ValueError(
                    f"{type(callback).__name__} needs whole weights, and this strategy shards "
                    "them; use another strategy (--trainer.strategy ddp) or leave it out"
                )
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = True) -> Any:
        """Read a checkpoint that holds nothing but tensors and plain values."""
        self.checkpoint_io.load_checkpoint(checkpoint_path)
        return super().load_checkpoint(checkpoint_path, weights_only=True)
