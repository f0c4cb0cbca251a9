"""What networks with timm's classifier head have in common."""

from abc import ABC, abstractmethod
from typing import Any

from timm.layers import ClassifierHead
from torch import Tensor, nn


class HeadedNetwork(nn.Module, ABC):
    """Base of networks that end in timm's `ClassifierHead`, with the methods that timm expects."""

    num_classes: int
    num_features: int
    head_hidden_size: int
    head: Any

    def add_head(self, channels: int, num_classes: int, global_pool: str, drop_rate: float) -> None:
        """Add the head.

        Args:
            channels: Of the last maps.
            num_classes: Number of classes, 0 for no classifier.
            global_pool: How the last maps are pooled, as in timm; empty for not at all.
            drop_rate: Dropout before the classifier.
        """
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = channels
        self.head = ClassifierHead(channels, num_classes, global_pool, drop_rate)

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Last maps `(N, C, h, w)` of `x: (N, in_chans, H, W)`."""

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of the last maps, or what the classifier gets."""
        logits: Tensor = self.head(x, pre_logits=pre_logits)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(N, num_classes)` of `x: (N, in_chans, H, W)`."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The classifier."""
        classifier: nn.Module = self.head.fc
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; 0 classes for none."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)
