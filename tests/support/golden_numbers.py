"""The rule by which golden cases are made, and the comparison with what they recorded.

A case is outputs, loss and gradient norms of the papers' own code. Its weights and its input follow
from names, shapes and seeds alone, so only numbers are kept.
"""

import math
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor


def draw(key: str, shape: list[int]) -> Tensor:
    """The tensor of a state-dict key, from the key and the shape alone."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    scale = 1 / math.sqrt(max(1, math.prod(shape[1:]))) if len(shape) >= 2 else 0.1
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    values = generator.standard_normal(shape).astype(np.float32) * np.float32(scale)
    if key.endswith("running_var"):
        values = 1 + abs(values)
    elif len(shape) == 1 and key.endswith(".weight"):
        values = 1 + values
    return torch.from_numpy(values)


def input_of(case: dict[str, Any], dtype: str = "float32") -> Tensor:
    """A case's input; it has a gradient."""
    generator = np.random.Generator(np.random.PCG64(case["input"]["seed"]))
    x = torch.from_numpy(generator.standard_normal(case["input"]["shape"]).astype(np.float32))
    return x.to(getattr(torch, dtype)).requires_grad_()


def assert_agrees(tensor: Tensor, golden: dict[str, Any]) -> None:
    """Each listed value, mean and spread lie within 1e-4 of the tensor's root mean square."""
    assert list(tensor.shape) == golden["shape"]
    tensor = tensor.detach().double()
    tolerance = 1e-4 * golden["l2"] / math.sqrt(tensor.numel())
    listed = golden.get("values") or golden["first16"]
    found = tensor.flatten()[: len(listed)].tolist()
    assert found == pytest.approx(listed, rel=0, abs=tolerance)
    assert tensor.mean().item() == pytest.approx(golden["mean"], rel=0, abs=tolerance)
    assert tensor.std(unbiased=False).item() == pytest.approx(golden["std"], rel=0, abs=tolerance)
    assert tensor.norm().item() == pytest.approx(golden["l2"], rel=1e-4)


def assert_gradients_agree(gradients: dict[str, Tensor | None], golden: dict[str, float]) -> None:
    """Every recorded norm is that of the gradient of the same name, to a thousandth."""
    for key, norm in golden.items():
        gradient = gradients[key]
        assert gradient is not None, key
        assert gradient.double().norm().item() == pytest.approx(norm, rel=1e-3), key
