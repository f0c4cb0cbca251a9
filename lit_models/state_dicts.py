"""Comparing state dicts, for errors that name the first difference."""

from collections.abc import Mapping

from torch import Tensor


def first_difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Say how `found` first differs from `expected` in names and shapes, None if it does not."""
    for key, value in expected.items():
        if key not in found:
            return f"they lack {key!r}"
        if found[key].shape != value.shape:
            shapes = f"{tuple(found[key].shape)}, not {tuple(value.shape)}"
            return f"their {key!r} has the shape {shapes}"
    unexpected = next((key for key in found if key not in expected), None)
    return f"they have {unexpected!r} besides" if unexpected is not None else None
