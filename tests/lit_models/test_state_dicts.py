import torch

from lit_models.state_dicts import first_differences


def test_the_first_of_each_kind_of_difference_is_named() -> None:
    expected = {"a": torch.zeros(1), "b": torch.zeros(2), "c": torch.zeros(3), "d": torch.zeros(4)}
    found = {"x": torch.zeros(1), "c": torch.zeros(1, 3), "d": torch.zeros(5), "y": torch.zeros(1)}
    assert first_differences(expected, found) == (
        "they lack 'a'; they have 'x' besides; their 'c' has the shape (1, 3), not (3,)"
    )


def test_equal_names_and_shapes_are_no_difference() -> None:
    assert first_differences({"a": torch.zeros(2)}, {"a": torch.ones(2)}) is None
