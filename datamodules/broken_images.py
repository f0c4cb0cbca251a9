"""Broken images that training comes across: the end of the run, or left out and recorded."""

import warnings
from typing import Any, Literal, NoReturn

import torch

from datamodules.image_decoding import BrokenImage

OnBrokenImage = Literal["raise", "skip"]


class BrokenImages:
    """The broken images that were left out.

    Args:
        policy: What is done about one: "raise" ends the run, "skip" leaves it out.

    Attributes:
        paths: Where the images are that this process left out.
    """

    def __init__(self, policy: OnBrokenImage) -> None:
        self.policy = policy
        self.paths: list[str] = []

    def found(self, image: BrokenImage) -> None:
        """Take notice of a broken training image; the first time it is left out, warn.

        Raises:
            ValueError: Broken images are not left out.
        """
        if self.policy == "raise":
            raise ValueError(
                f"{image.path} cannot be read ({image.reason}); replace it, or leave out such "
                f"training images with --data.init_args.on_broken_image=skip"
            )
        if image.path not in self.paths:
            self.paths.append(image.path)
            warnings.warn(
                f"{image.path} cannot be read ({image.reason}) and is left out", stacklevel=2
            )

    def facts(self) -> dict[str, Any]:
        """What a run's record says of them, on whatever device; all devices must call it."""
        found: list[list[str]] = [self.paths]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            found = [[] for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(found, self.paths)
        paths = sorted({path for paths in found for path in paths})
        return {"broken_images": {"count": len(paths), "paths": paths}} if paths else {}


def refuse_to_evaluate(image: BrokenImage) -> NoReturn:
    """End an evaluation that comes across a broken image.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f"{image.path} cannot be read ({image.reason}); an evaluation counts every image, so "
        f"replace it or remove it from the data set"
    )
