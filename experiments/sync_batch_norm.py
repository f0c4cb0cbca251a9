"""Batch normalisation over all devices, also where it is one layer with an activation."""

from lightning.pytorch.plugins import LayerSync
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lit_models.surgery import replace_modules


class SyncBatchNorm(LayerSync):
    """What `trainer.sync_batchnorm` stands for here.

    torch's own conversion, which Lightning uses, replaces timm's normalisation with activation
    (`BatchNormAct2d`) by one without, silently.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Synchronise every batch normalisation of `model`, in place."""
        return replace_modules(
            model,
            lambda _, module: (
                isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm)
            ),
            lambda _, module: convert_sync_batchnorm(module),
        ).network

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave `model` as it is: in evaluation the synchronised layers compute the same."""
        return model
