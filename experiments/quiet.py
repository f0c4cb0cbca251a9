"""Leaves out what is no news: tips about other products, hints that do not apply here."""

import logging
import warnings


def quieten() -> None:
    """Filter such messages from here on."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: "Tip:" not in record.getMessage())
    for noise in (
        "does not have many workers",
        "Checkpoint directory .* exists and is not empty",
        "have no `val_dataloader`",
        "isinstance.*LeafSpec",
        "The dirpath has changed",
        "when using `ckpt_path`, callbacks used to create the checkpoint",
        "Total length of `list` across ranks is zero",
        # Metrics are synchronised before they are logged.
        "It is recommended to use .*sync_dist=True",
        # What it saved as the weights is the average.
        "loading a checkpoint outside the 'fit' stage",
        # Only where a strategy shards, and then it refuses.
        "WeightAveraging callback with a model that overrides the configure_model",
        # Whether `srun` is used or not is as it was asked for.
        "The `srun` command is available",
    ):
        warnings.filterwarnings("ignore", message=f".*{noise}")
