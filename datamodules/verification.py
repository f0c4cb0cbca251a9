"""What a check of a data set finds."""

from dataclasses import dataclass, field
from typing import Any

from datamodules.official import OfficialDataModule


@dataclass
class Verification:
    """What was found in a data set.

    Attributes:
        name: Name of the data set.
        root: Where it lies.
        counts: Number of images of every class, for every split.
        facts: What else is known, by subject.
        problems: What is wrong, a line each.
        fingerprint: What run records say of the data; None if it cannot be read.
    """

    name: str
    root: str
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    fingerprint: dict[str, Any] | None = None


def verify_official(data: OfficialDataModule) -> Verification:
    """Check the official files of a data set: all of them there, with their MD5 sums."""
    found = Verification(data.name, str(data.root))
    found.problems += data.faults()
    if found.problems:
        return found
    classes = [str(number) for number in range(data.num_classes)]
    for split, images in zip(("train", "test"), data.sets(), strict=True):
        counts = images.targets.bincount(minlength=data.num_classes).tolist()
        found.counts[split] = dict(zip(classes, counts, strict=True))
    found.facts["files"] = f"all {len(data.checksums)} have their official MD5 sums"
    found.facts["classes"] = "in their official order, which the files hold"
    found.fingerprint = data.fingerprint
    return found
