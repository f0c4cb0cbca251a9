"""The plain networks of the three MNIST demos of the DO-Conv repository.

Each is what the demo's framework would have built: its layers, its activation on the logits and its
initialisation. The demos' DO-Conv rows put the operator into exactly these.
"""

import math
from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from lit_models.registry import register_network


def mnist_demo_pytorch(num_classes: int = 10, in_chans: int = 1) -> nn.Sequential:
    """Three strided 3x3 convolutions whose averaged last maps are the logits; 3,930 parameters.

    A ReLU follows the last convolution too, so no logit is negative. PyTorch's initialisation.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_chans, 16, 3, stride=2, padding=1),
            act1=nn.ReLU(),
            conv2=nn.Conv2d(16, 16, 3, stride=2, padding=1),
            act2=nn.ReLU(),
            conv3=nn.Conv2d(16, num_classes, 3, stride=2, padding=1),
            act3=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
        )
    )


def mnist_demo_tensorflow(num_classes: int = 10, in_chans: int = 1) -> nn.Sequential:
    """Two 3x3 convolutions and a dense layer, for 28x28 images; 48,722 parameters.

    Keras' initialisation: Glorot uniform, biases 0. The demo's softmax is part of the loss here.
    """
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_chans, 32, 3),
            act1=nn.ReLU(),
            conv2=nn.Conv2d(32, 8, 3),
            act2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc=nn.Linear(8 * 24 * 24, num_classes),
        )
    )
    return _initialise(network, nn.init.xavier_uniform_)


def mnist_demo_gluoncv(num_classes: int = 10, in_chans: int = 1) -> nn.Sequential:
    """LeNet with tanh everywhere, on the logits too, for 28x28 images; 431,080 parameters.

    MXNet's `Xavier(magnitude=2.24)`: uniform within sqrt(2.24 / mean(fan_in, fan_out)), biases 0.
    """
    network = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_chans, 20, 5),
            act1=nn.Tanh(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(20, 50, 5),
            act2=nn.Tanh(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(50 * 4 * 4, 500),
            act3=nn.Tanh(),
            fc2=nn.Linear(500, num_classes),
            act4=nn.Tanh(),
        )
    )
    # torch's Xavier bound is gain * sqrt(6 / (fan_in + fan_out)).
    gain = math.sqrt(2 * 2.24 / 6)
    return _initialise(network, lambda weight: nn.init.xavier_uniform_(weight, gain))


def _initialise(network: nn.Sequential, draw: Callable[[Tensor], Tensor]) -> nn.Sequential:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            draw(module.weight)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return network


_FACTS = {"num_classes": 10, "input_size": (1, 28, 28), "mean": (0.0,), "std": (1.0,)}
for _build in (mnist_demo_pytorch, mnist_demo_tensorflow, mnist_demo_gluoncv):
    register_network(_build.__name__, _build, _FACTS)
