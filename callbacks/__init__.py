"""Hooks into training: one callback, one file."""

from callbacks.do_conv_fusion import DoConvFusionCallback

__all__ = ["DoConvFusionCallback"]
