"""Small data sets of image files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def image_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train (14 images) and val (7 images) of three classes, 32x24 JPEGs."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for split, count in (("train", 14), ("val", 7)):
        for number in range(count):
            path = root / split / "abc"[number % 3] / f"{number:02}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (24, 32, 3), np.uint8)
            Image.fromarray(pixels).save(path, quality=95)
    return root
