"""MNIST, read from the four official archives where they lie."""

import gzip
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import MNIST  # type: ignore[import-untyped]

from datamodules.in_memory_loader import LabelledImages
from datamodules.official import OfficialDataModule, fetch_verified


class MNISTDataModule(OfficialDataModule):
    """MNIST: 60,000 handwritten digits to train on and 10,000 to test, 28x28.

    The gzip archives are looked for in `MNIST/raw`, in `raw` and in the root folder itself. They
    are read as they are, and their MD5 sums are verified at every reading.

    Args:
        root: Folder of the data sets; None for the environment variable CONVSUITE_DATA, else data.
        download: Fetch archives that are missing into MNIST/raw in the root folder.
        **options: Options of `InMemoryDataModule`.
    """

    name = "MNIST"
    num_classes = 10
    input_size = (1, 28, 28)
    folders = ("MNIST/raw", "raw", "")

    @property
    def checksums(self) -> dict[str, str]:
        """MD5 sum of every archive."""
        return dict(MNIST.resources)

    def fetch(self, missing: list[str]) -> Iterator[tuple[str, bytes]]:
        """Fetch the missing archives, each from the first mirror that has it."""
        for name in missing:
            urls = (mirror + name for mirror in MNIST.mirrors)
            yield name, fetch_verified(urls, self.checksums[name])

    def is_truncated(self, content: bytes) -> bool:
        """Whether an archive ends before its end."""
        try:
            return not gzip.decompress(content)
        except EOFError:
            return True
        except Exception:  # whatever else is wrong with it, the checksum has found it already
            return False

    def read(self) -> tuple[LabelledImages, LabelledImages]:
        """Read the training set and the test set from their archives, and fetch nothing.

        Raises:
            FileNotFoundError: Archives are missing.
            ValueError: An archive is not the one that its name says.
        """

        def split(prefix: str) -> LabelledImages:
            images, labels = (
                _parse_idx(gzip.decompress(self.content(name)))
                for name in (f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz")
            )
            return LabelledImages(images.unsqueeze(1), labels.long())

        return split("train"), split("t10k")


def _parse_idx(content: bytes) -> Tensor:
    # Two zero bytes, the type (8: uint8), the number of dimensions, each as big-endian int32.
    dimensions = content[3]
    sizes = np.frombuffer(content, ">i4", count=dimensions, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    return torch.from_numpy(values.reshape(sizes).copy())
