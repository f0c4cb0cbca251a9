from pathlib import Path

import pytest

from experiments.tables.static import static_columns

# Counted by hand from the layers: the demo networks, and D of every convolution beside them.
COUNTS = {
    "mnist_pytorch/baseline": (3930, 3930),
    "mnist_pytorch/do_conv": (6603, 3930),
    "mnist_tensorflow/do_conv": (51395, 48722),
    "mnist_gluoncv/do_conv": (444205, 431080),
}


@pytest.mark.parametrize("row", COUNTS)
def test_parameters_are_counted_before_and_after_fusing(row: str, repository: Path) -> None:
    columns = static_columns(repository / "configs" / "do_conv" / f"{row}.yaml")
    assert (columns.training, columns.fused) == COUNTS[row]


def test_multiply_adds_are_those_of_the_deployed_network(repository: Path) -> None:
    folder = repository / "configs" / "do_conv" / "mnist_pytorch"
    # 3x3 kernels on maps of 14x14, 7x7 and 4x4.
    expected = 9 * (16 * 14 * 14 + 16 * 16 * 7 * 7 + 16 * 10 * 4 * 4)
    assert static_columns(folder / "baseline.yaml").multiply_adds == expected
    assert static_columns(folder / "do_conv.yaml").multiply_adds == expected
