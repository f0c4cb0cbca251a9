"""Contrasting-driven attention: from a layer's input to the coefficients of its mixtures."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_models.kernel_warehouse.warehouse import Shelf

Norm = Literal["batch", "layer"]
AttentionFunction = Literal["contrasting", "softmax", "sigmoid", "plain"]


class ContrastingAttention(nn.Module):
    """Coefficients of every mixture over all cells of the warehouse (sections 3.3 and 3.4).

    Pooled input - linear - norm - ReLU - linear; then each mixture's logits, an additional one for
    an all-zero cell among them, are divided by the sum of their absolute values, so signs stay and
    cells compete; last, the initial assignment is mixed in: `(1 - t) * weights + t * assignment`.

    Args:
        in_channels: Channels of the layer's input, of all groups together.
        shelf: The layer's place in its warehouse.
        num_cells: Cells in the warehouse, N.
        reduction: The hidden width is `max(int(in_channels * reduction), 16)`.
        norm: "batch" (the first linear layer has no bias then) or "layer".
        nonlocal_basis_ratio: Below 1, the logits of other layers' cells come from a basis of
            `max(int(ratio * such cells), 16)` logits, to save parameters.

    Raises:
        ValueError: If an argument is out of its range.
    """

    function: AttentionFunction = "contrasting"
    """What makes weights of the logits; the others are there to compare."""
    assignment: Tensor

    def __init__(
        self,
        in_channels: int,
        shelf: Shelf,
        num_cells: int,
        *,
        reduction: float = 1 / 16,
        norm: Norm = "batch",
        nonlocal_basis_ratio: float = 1.0,
    ) -> None:
        super().__init__()
        if reduction <= 0:
            raise ValueError(f"reduction is {reduction}; it must be above 0")
        if nonlocal_basis_ratio <= 0:
            raise ValueError(f"nonlocal_basis_ratio is {nonlocal_basis_ratio}; it must be above 0")
        if norm not in ("batch", "layer"):
            raise ValueError(f"norm is {norm!r}; it must be 'batch' or 'layer'")
        self.shelf = shelf
        self.num_cells = num_cells
        mixtures = shelf.mixtures
        hidden = max(int(in_channels * reduction), 16)
        if nonlocal_basis_ratio < 1:
            others = num_cells - shelf.num_cells
            self.num_basis = max(int(others * nonlocal_basis_ratio), 16)
            self.basis_bias = nn.Parameter(torch.empty(mixtures * (num_cells + 1)))
        else:
            self.num_basis = 0
        self.fc1 = nn.Linear(in_channels, hidden, bias=norm != "batch")
        self.norm1 = nn.BatchNorm1d(hidden) if norm == "batch" else nn.LayerNorm(hidden)
        if self.num_basis:
            logits = shelf.num_cells + self.num_basis + 1
            self.fc2 = nn.Linear(hidden, mixtures * logits, bias=False)
            self.fc3 = nn.Linear(self.num_basis, others, bias=False)
        else:
            self.fc2 = nn.Linear(hidden, mixtures * (num_cells + 1))
        # Structure, not state: it is rebuilt rather than saved. As floats it survives averaging.
        self.register_buffer("assignment", torch.empty(0), persistent=False)
        # Loading may be what gives a network from the meta device its memory.
        self.register_load_state_dict_post_hook(_rebuild_assignment)  # type: ignore[no-untyped-call]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the linear layers with He's fan-out rule; biases 0; build the assignment."""
        for module in self.children():
            if isinstance(module, nn.Linear):
                # By hand: `kaiming_normal_` warns of a basis for no other cells.
                nn.init.normal_(module.weight, 0, math.sqrt(2 / max(module.out_features, 1)))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.norm1.reset_parameters()
        if self.num_basis:
            nn.init.zeros_(self.basis_bias)
        self.reset_assignment()

    def forward(self, pooled: Tensor, temperature: Tensor) -> Tensor:
        """Return coefficients `(N, mixtures, cells)`, in full precision under autocast.

        Args:
            pooled: Mean of the layer's input over its positions, `(N, in_channels)`.
            temperature: `()`, between 0 and 1.

        Raises:
            ValueError: In training, if batch normalisation gets a single sample.
        """
        if self.norm1.training and isinstance(self.norm1, nn.BatchNorm1d) and pooled.shape[0] == 1:
            raise ValueError(
                "the attention's batch normalisation cannot train on a batch of one sample; "
                "use a larger batch or norm='layer'"
            )
        with full_precision(pooled.device.type):
            hidden = F.relu(self.norm1(self.fc1(pooled.to(self.fc1.weight.dtype))))
            logits = self._logits(hidden)
            weights = _FUNCTIONS[self.function](logits)
            return (1 - temperature) * weights[..., :-1] + temperature * self.assignment

    def _logits(self, hidden: Tensor) -> Tensor:
        """Return logits `(N, mixtures, cells + 1)`, that of the all-zero cell last."""
        logits: Tensor = self.fc2(hidden).unflatten(1, (self.shelf.mixtures, -1))
        if not self.num_basis:
            return logits
        first = self.shelf.first_cell
        sizes = [self.shelf.num_cells, self.num_basis, 1]
        own, basis, zero = torch.split(logits, sizes, dim=-1)
        others = self.fc3(basis)
        logits = torch.cat([others[..., :first], own, others[..., first:], zero], dim=-1)
        return logits + self.basis_bias.view(self.shelf.mixtures, -1)

    def reset_assignment(self) -> None:
        """Give every mixture the cell that it starts with, or none (section 3.4)."""
        assignment = torch.zeros(self.shelf.mixtures, self.num_cells, device="cpu")
        mixtures, cells = zip(*initial_assignment(self.shelf), strict=True)
        assignment[list(mixtures), list(cells)] = 1
        self.assignment = assignment.to(self.fc1.weight)


def _contrasting(logits: Tensor) -> Tensor:
    return logits / (logits.abs().sum(-1, keepdim=True) + 1e-3)


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(-1)


def _plain(logits: Tensor) -> Tensor:
    return logits


_FUNCTIONS: dict[AttentionFunction, Callable[[Tensor], Tensor]] = {
    "contrasting": _contrasting,
    "softmax": _softmax,
    "sigmoid": torch.sigmoid,
    "plain": _plain,
}


def set_attention_function(network: nn.Module, function: AttentionFunction) -> None:
    """Set what makes weights of the logits `(N, mixtures, cells + 1)` in all attentions.

    Nothing else changes: parameters, all-zero cell and temperature are the same.

    Args:
        network: Any network with KernelWarehouse layers.
        function: "contrasting" divides by the sum of absolute values, as in the paper; "softmax"
            and "sigmoid" are those of dynamic convolution before; "plain" takes the logits.

    Raises:
        ValueError: If there is no such function.
    """
    if function not in _FUNCTIONS:
        known = ", ".join(get_args(AttentionFunction))
        raise ValueError(f"attention_function is {function!r}; it must be one of {known}")
    for module in network.modules():
        if isinstance(module, ContrastingAttention):
            module.function = function


def initial_assignment(shelf: Shelf) -> list[tuple[int, int]]:
    """Return the pairs (mixture, cell) of the initial assignment.

    With `r` cells per mixture, mixture k starts on the first of its r cells. With n mixtures per
    cell, mixture i starts on a cell of its own where `i mod n == (i div n) mod n`; the others start
    on the all-zero cell and have no pair.
    """
    first, own, mixtures = shelf.first_cell, shelf.num_cells, shelf.mixtures
    if own >= mixtures:
        return [(k, first + k * (own // mixtures)) for k in range(mixtures)]
    n = mixtures // own
    owners = [i for i in range(mixtures) if i % n == (i // n) % n]
    return [(i, first + k) for k, i in enumerate(owners)]


def _rebuild_assignment(attention: ContrastingAttention, _: object) -> None:
    attention.reset_assignment()


def full_precision(device: str) -> AbstractContextManager[object]:
    """Return a context without autocast on a type of device."""
    # Entering only where needed keeps the context out of exported graphs.
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
