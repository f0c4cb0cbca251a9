"""The conditions that subjects are timed under: all that a ledger's name says, and threads."""

from dataclasses import dataclass
from typing import Literal, get_args

from experiments.compose import ConfigError

What = Literal["forward", "training", "step"]
Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16"]

WHATS, DEVICES, PRECISIONS = get_args(What), get_args(Device), get_args(Precision)


@dataclass(frozen=True)
class Conditions:
    """How subjects are timed.

    Attributes:
        what: `forward` in evaluation mode without gradients; `training`, forward and backward
            passes; or `step`, a whole training step: mixing of images, both passes and the
            optimiser's step, without the loop around it.
        device: `cpu` or `cuda`.
        precision: `bf16` and `fp16` are torch's autocast, as recipes train.
        channels_last: Memory format of images and kernels.
        compiled: Whether networks go through torch.compile.
        threads: CPU threads of torch.
        cudnn_benchmark: Whether cuDNN tries which of its algorithms is fastest.
    """

    what: What = "forward"
    device: Device = "cpu"
    precision: Precision = "fp32"
    channels_last: bool = False
    compiled: bool = False
    threads: int = 1
    cudnn_benchmark: bool = False

    @property
    def layout(self) -> str:
        """Memory format by its usual short name."""
        return "nhwc" if self.channels_last else "nchw"

    def check(self) -> None:
        """Refuse what this machine can't do.

        Raises:
            ConfigError: There is no GPU, or `fp16` is asked of a CPU.
        """
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("this machine has no GPU that torch can use; give --device cpu")
        if self.device == "cpu" and self.precision == "fp16":
            raise ConfigError(
                "--precision fp16 needs a GPU (--device cuda); on a CPU torch computes in fp32 or "
                "bf16"
            )
        if self.device == "cpu" and self.cudnn_benchmark:
            raise ConfigError("--cudnn-benchmark is for --device cuda")

    def apply(self) -> None:
        """Set the process's threads and cuDNN's choice."""
        import torch

        torch.set_num_threads(self.threads)
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
