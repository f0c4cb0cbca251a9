"""Hooks into training: one callback, one file."""

from callbacks.do_conv_fusion import DoConvFusionCallback
from callbacks.ema import EMACallback

__all__ = ["DoConvFusionCallback", "EMACallback"]
