"""Maps in the outputs of layers: convolutions put channels first, transformers make tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, cat

# Class, distillation and register tokens that are looked for where a network doesn't say.
_PREFIXES = range(3)


@dataclass(frozen=True)
class Layout:
    """How the output of a layer is a map.

    Attributes:
        order: `(N, C, h, w)`, `(N, h, w, C)`, or `tokens (N, prefix + h * w, C)` row by row.
        grid: Height and width of the map.
        prefix: Tokens before those of the map: class token, registers.
    """

    order: Literal["NCHW", "NHWC", "tokens"]
    grid: tuple[int, int]
    prefix: int = 0

    def to_map(self, output: Tensor) -> Tensor:
        """The map `(N, C, h, w)` in a layer's output; tokens before it are left out."""
        if self.order == "NCHW":
            return output
        if self.order == "tokens":
            batch, _, channels = output.shape
            output = output[:, self.prefix :].reshape(batch, *self.grid, channels)
        return output.permute(0, 3, 1, 2)

    def from_map(self, maps: Tensor, output: Tensor) -> Tensor:
        """An output with the map `(N, C, h, w)` in it, and else what `output` has."""
        if self.order == "NCHW":
            return maps
        maps = maps.permute(0, 2, 3, 1)
        if self.order == "NHWC":
            return maps
        return cat((output[:, : self.prefix], maps.flatten(1, 2)), dim=1)

    def through(self, function: Callable[[Tensor], Tensor], output: Any) -> Any:
        """The output with `function` of its map in it."""
        if isinstance(output, tuple):
            return (self.through(function, output[0]), *output[1:])
        return self.from_map(function(self.to_map(output)), output)


def find_layout(
    shape: Sequence[int], image: tuple[int, int], prefix: int | None = None
) -> Layout | None:
    """How an output of that shape is a map of an image; None if it is none.

    Args:
        shape: Of the output, the batch first.
        image: Height and width of the image.
        prefix: Tokens before those of the map, if the network says how many it has.
    """
    if len(shape) == 4:
        orders: tuple[tuple[Literal["NCHW", "NHWC"], tuple[int, int]], ...] = (
            ("NCHW", (shape[2], shape[3])),
            ("NHWC", (shape[1], shape[2])),
        )
        found = (Layout(order, grid) for order, grid in orders if _fits(grid, image))
        return next(found, None)
    if len(shape) == 3:
        for before in dict.fromkeys([*([] if prefix is None else [prefix]), *_PREFIXES]):
            grid = token_grid(shape[1] - before, image)
            if grid:
                return Layout("tokens", grid, before)
    return None


def token_grid(tokens: int, image: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width of the grid of so many tokens in an image's proportions, None if none is."""
    sides = (height for height in range(1, tokens + 1) if tokens % height == 0)
    grids = [(height, tokens // height) for height in sides]
    fitting = [grid for grid in grids if _fits(grid, image)]
    ratio = image[0] / image[1]
    return min(fitting, key=lambda grid: abs(grid[0] / grid[1] - ratio), default=None)


def _fits(grid: tuple[int, int], image: tuple[int, int]) -> bool:
    """Whether a grid of more than one cell has an image's proportions, up to a cell."""
    (h, w), (height, width) = grid, image
    proportional = abs(h - w * height / width) <= 1 or abs(w - h * width / height) <= 1
    return h * w > 1 and h <= height and w <= width and proportional
