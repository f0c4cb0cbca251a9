"""Data sets as LightningDataModules, one file each."""

from datamodules.cifar import CIFAR10DataModule, CIFAR100DataModule
from datamodules.coco import COCODataModule
from datamodules.digits import DigitsDataModule
from datamodules.imagenet import ImageNetDataModule
from datamodules.in_memory import InMemoryDataModule
from datamodules.in_memory_loader import InMemoryLoader, LabelledImages
from datamodules.mnist import MNISTDataModule
from datamodules.sampling import Shuffle

__all__ = [
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "COCODataModule",
    "DigitsDataModule",
    "ImageNetDataModule",
    "InMemoryDataModule",
    "InMemoryLoader",
    "LabelledImages",
    "MNISTDataModule",
    "Shuffle",
]
