"""The model summary: the network's parts, and its parameters in training and as deployed."""

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_summary.model_summary import ModelSummary
from rich.console import Console
from rich.table import Table

from lit_models import NetworkTraining
from lit_models.complexity import count_parameters


class DeployedModelSummary(Callback):
    """Prints what the network is made of and what it comes down to once operators are folded.

    Args:
        max_depth: Depth of the modules listed, from the network down; -1 lists all.
    """

    def __init__(self, max_depth: int = 1) -> None:
        self.max_depth = max_depth

    @rank_zero_only
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Print the table, before the weights may be sharded."""
        if stage != "fit" or not isinstance(pl_module, NetworkTraining):
            return
        depth = self.max_depth + 1 if self.max_depth >= 0 else -1
        summary = ModelSummary(pl_module, max_depth=depth)
        table = Table("network", "type", "parameters", title=type(pl_module).__name__)
        table.columns[2].justify = "right"
        rows = zip(summary.layer_names, summary.layer_types, summary.param_nums, strict=True)
        for name, kind, count in rows:
            if name.startswith("network."):
                table.add_row(name.removeprefix("network."), kind, f"{count:,}")
        table.add_section()
        table.add_row("in training", "", f"{count_parameters(pl_module.network):,}")
        table.add_row("as deployed", "", f"{count_parameters(pl_module.deployed()):,}")
        console = Console()
        console.print(table)
        for reason, names in _left_plain(pl_module).items():
            console.print(f"left plain, because {reason}: {', '.join(names)}")


def _left_plain(pl_module: NetworkTraining) -> dict[str, list[str]]:
    """Modules that an operator was not put into, by reason, where the network says so."""
    static: dict[str, str] = getattr(pl_module.network, "static_kernels", {})
    by_reason: dict[str, list[str]] = {}
    for name, reason in static.items():
        by_reason.setdefault(reason, []).append(name)
    return by_reason
