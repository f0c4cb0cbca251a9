"""What the D of DO-Conv has learned: how far it went from the identity that it starts at."""

import math

from torch import nn

from lit_models.do_conv.layers import DOConv2d


def distances_from_identity(network: nn.Module) -> dict[str, float]:
    """Relative Frobenius distance of D from the identity, by the names of the layers.

    It is the norm of (D - identity) over that of the identity: 0 for a fresh layer, 1 where D has
    moved by as much as it is long. Layers of 1x1 kernels have no D and are left out.

    Args:
        network: A network with DO-Conv layers, unfused.
    """
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, DOConv2d) and module.D is not None:
            in_channels, area, depth_multiplier = module.D.shape
            # As many whole identity matrices side by side as D_mul has room for; see `kernel`.
            identity = math.sqrt(in_channels * area * (depth_multiplier // area))
            # The parameter D is the difference from the identity already.
            found[name] = module.D.detach().double().norm().item() / identity
    return found
