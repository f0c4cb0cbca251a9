"""Hooks into training: one callback, one file."""

from callbacks.do_conv_fusion import DoConvFusionCallback
from callbacks.ema import EMACallback
from callbacks.found_cell import FoundCellCallback
from callbacks.kw_attention_temperature import KWAttentionTemperatureCallback

__all__ = [
    "DoConvFusionCallback",
    "EMACallback",
    "FoundCellCallback",
    "KWAttentionTemperatureCallback",
]
