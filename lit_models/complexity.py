"""What a network costs: parameters and multiply-adds."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(network: nn.Module) -> int:
    """Number of parameters; a shared one counts once."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module, input_size: tuple[int, int, int]) -> int:
    """Forward multiply-adds for one image, in evaluation mode.

    Counted by torch's `FlopCounterMode` (convolutions, linear layers, matrix products; pooling
    counts 0), which sees two operations in each multiply-add. Works on the meta device.

    Args:
        network: Takes `x: (N, C, H, W)`.
        input_size: `(C, H, W)` of the image.
    """
    like = next(network.parameters())
    image = torch.zeros(1, *input_size, device=like.device, dtype=like.dtype)
    modes = [(module, module.training) for module in network.modules()]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    # The counter follows gradients through modules, and fails where there are none (timm's PiT).
    network.eval().requires_grad_(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(image)
    finally:
        for module, training in modes:
            module.training = training
        for parameter in trained:
            parameter.requires_grad_()
    return int(counter.get_total_flops()) // 2
