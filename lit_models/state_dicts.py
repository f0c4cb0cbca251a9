"""Comparing state dicts, for errors that name the first differences."""

from collections.abc import Mapping

from torch import Tensor


def first_differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Name the first key of each kind by which `found` differs from `expected`, None without any.

    The kinds are: one that is missing, one that is too many, one with a tensor of another shape.
    """
    missing = next((key for key in expected if key not in found), None)
    unexpected = next((key for key in found if key not in expected), None)
    shared = (key for key in expected if key in found)
    misshapen = next((key for key in shared if found[key].shape != expected[key].shape), None)
    said = []
    if missing is not None:
        said.append(f"they lack {missing!r}")
    if unexpected is not None:
        said.append(f"they have {unexpected!r} besides")
    if misshapen is not None:
        shapes = f"{tuple(found[misshapen].shape)}, not {tuple(expected[misshapen].shape)}"
        said.append(f"their {misshapen!r} has the shape {shapes}")
    return "; ".join(said) or None
