"""Checks of options that several data modules have: one line says what is wrong."""

from collections.abc import Collection, Sequence


def at_least(least: float, **options: float | None) -> None:
    """Check that the given options are not below `least`.

    Raises:
        ValueError: One is.
    """
    for name, value in options.items():
        if value is not None and value < least:
            raise ValueError(f"{name}={value} must be at least {least}")


def one_of(choices: Collection[str], **options: str | None) -> None:
    """Check that the given options are among `choices`.

    Raises:
        ValueError: One is not.
    """
    *others, last = (repr(choice) for choice in choices)
    for name, value in options.items():
        if value is not None and value not in choices:
            raise ValueError(f"{name}={value!r} must be {', '.join(others)} or {last}")


def check_normalisation(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> None:
    """Check that mean and standard deviation fit images with `channels` channels.

    Raises:
        ValueError: They do not.
    """
    if (mean is None) != (std is None):
        raise ValueError(f"mean={mean} and std={std} must be given together")
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != channels:
            raise ValueError(
                f"{name}={values} must have one number for each of {channels} channel(s)"
            )
    if std is not None and min(std) <= 0:
        raise ValueError(f"std={std} must be positive")
