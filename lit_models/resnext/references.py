"""Networks of other papers that MobileNetV1's tables quote and timm lacks: torchvision's.

They are the nearest that a library has, not everywhere the published ones: torchvision's AlexNet
has one column of convolutions and not two, and its GoogLeNet has batch normalisation, 3x3 kernels
in the place of 5x5 ones and, here, no auxiliary classifiers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision import models  # type: ignore[import-untyped]

from lit_models.registry import register_network


class TorchvisionNetwork(nn.Module):
    """A network of torchvision in parts, with what training and feature extraction ask of timm's.

    Args:
        features: From the images to the last map.
        neck: From there to what the classifier gets.
        fc: The classifier.
        tail: From the classifier to the logits.
        make_fc: Makes a classifier of a number of classes.
        num_classes: Number of classes; 0 for no classifier.
        in_chans: Channels of the images.
        global_pool: As in timm's VGG: empty for the map itself where there is no classifier, and
            anything else for the network's own way from the map to the classifier.
        maps: Place in `features`, channels and reduction of the maps that timm takes out.
    """

    def __init__(
        self,
        features: nn.Sequential,
        neck: nn.Module,
        fc: nn.Linear | nn.Conv2d,
        tail: nn.Module,
        make_fc: Callable[[int], nn.Module],
        num_classes: int,
        in_chans: int,
        global_pool: str,
        maps: tuple[tuple[int, int, int], ...],
    ) -> None:
        super().__init__()
        self.features = features
        self.neck = neck
        self.fc: nn.Module = fc if num_classes else nn.Identity()
        self.tail = tail
        self._make_fc = make_fc
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.global_pool = global_pool
        self.head_hidden_size = fc.weight.shape[1]
        self.num_features = maps[-1][1]
        self.feature_info = [
            {"num_chs": channels, "reduction": reduction, "module": f"features.{place}"}
            for place, channels, reduction in maps
        ]
        stem = next(module for module in features.modules() if isinstance(module, nn.Conv2d))
        if in_chans != stem.in_channels:
            stem.in_channels = in_chans
            shape = (stem.out_channels, in_chans, *stem.kernel_size)
            stem.weight = nn.Parameter(stem.weight.new_empty(shape))
            stem.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(N, num_classes)` of `x: (N, C, H, W)`."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map `(N, num_features, H', W')` of `x: (N, C, H, W)`."""
        y: Tensor = self.features(x)
        return y

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of a map, or with `pre_logits` what they would be without a classifier."""
        if not self.num_classes and not self.global_pool:
            return x
        x = self.neck(x)
        y: Tensor = self.tail(x if pre_logits else self.fc(x))
        return y

    def get_classifier(self) -> nn.Module:
        """The classifier."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; with 0 there is none."""
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = global_pool
        like = next(self.parameters())
        fc = self._make_fc(num_classes) if num_classes else nn.Identity()
        self.fc = fc.to(like.device, like.dtype).train(self.training)


def alexnet(
    num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.5, global_pool: str = "avg"
) -> nn.Module:
    """AlexNet in one column, 61,100,840 parameters."""
    network = models.AlexNet(max(1, num_classes), drop_rate)
    *hidden, fc = network.classifier
    return TorchvisionNetwork(
        network.features,
        nn.Sequential(network.avgpool, nn.Flatten(), *hidden),
        fc,
        nn.Identity(),
        partial(nn.Linear, fc.in_features),
        num_classes,
        in_chans,
        global_pool,
        maps=((1, 64, 4), (4, 192, 8), (11, 256, 16), (12, 256, 32)),
    )


def squeezenet(
    num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.5, global_pool: str = "avg"
) -> nn.Module:
    """SqueezeNet 1.0, 1,248,424 parameters; its classifier is a 1x1 convolution."""
    network = models.SqueezeNet("1_0", max(1, num_classes), drop_rate)
    dropout, fc, *tail = network.classifier
    return TorchvisionNetwork(
        network.features,
        dropout,
        fc,
        nn.Sequential(*tail, nn.Flatten()),
        partial(nn.Conv2d, fc.in_channels, kernel_size=1),
        num_classes,
        in_chans,
        global_pool,
        maps=((1, 96, 2), (5, 256, 4), (10, 512, 8), (12, 512, 16)),
    )


def googlenet(
    num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.2, global_pool: str = "avg"
) -> nn.Module:
    """GoogLeNet with batch normalisation, 6,624,904 parameters."""
    network = models.GoogLeNet(
        max(1, num_classes), aux_logits=False, init_weights=True, dropout=drop_rate
    )
    *features, pool, dropout, fc = network.children()
    return TorchvisionNetwork(
        nn.Sequential(*features),
        nn.Sequential(pool, nn.Flatten(), dropout),
        fc,
        nn.Identity(),
        partial(nn.Linear, fc.in_features),
        num_classes,
        in_chans,
        global_pool,
        maps=((0, 64, 2), (3, 192, 4), (6, 480, 8), (12, 832, 16), (15, 1024, 32)),
    )


def _register(
    build: Callable[..., Any], first_conv: str, pool_size: tuple[int, int], maps: int
) -> None:
    facts = {"first_conv": first_conv, "classifier": "fc", "pool_size": pool_size}
    features = {"flatten_sequential": True, "out_indices": tuple(range(maps))}
    register_network(build.__name__, build, facts, features)


_register(alexnet, "features.0", (6, 6), maps=4)
_register(squeezenet, "features.0", (13, 13), maps=4)
_register(googlenet, "features.0.conv", (7, 7), maps=5)
