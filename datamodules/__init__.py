"""Data sets as LightningDataModules, one file each."""

from datamodules.digits import DigitsDataModule
from datamodules.in_memory import InMemoryDataModule, InMemoryLoader, LabelledImages, Shuffle
from datamodules.mnist import MNISTDataModule

__all__ = [
    "DigitsDataModule",
    "InMemoryDataModule",
    "InMemoryLoader",
    "LabelledImages",
    "MNISTDataModule",
    "Shuffle",
]
