import torch

from datamodules import DigitsDataModule


def test_there_are_1437_digits_to_train_on_and_360_to_test() -> None:
    data = DigitsDataModule()
    assert (data.num_train, data.num_val, data.num_test) == (1437, 0, 360)
    assert (data.num_classes, data.in_chans, data.input_size) == (10, 1, (1, 28, 28))


def test_the_test_images_are_spread_evenly_over_the_classes() -> None:
    _, test = DigitsDataModule().sets()
    counts = torch.bincount(test.targets, minlength=10)
    assert counts.min() >= 35
    assert counts.max() <= 37


def test_the_digits_are_always_the_same() -> None:
    sha256 = DigitsDataModule().fingerprint["sha256"]
    assert sha256 == "ba574c8fd500dd98ae119405a49098b93c9bfbed8f95f85e69c97c49599ac3c8"


def test_no_digit_is_in_both_sets() -> None:
    train, test = DigitsDataModule().sets()
    seen = {image.numpy().tobytes() for image in train.images}
    assert not seen & {image.numpy().tobytes() for image in test.images}


def test_digits_keep_their_shape_and_use_the_whole_range() -> None:
    from sklearn.datasets import load_digits

    train, test = DigitsDataModule().sets()
    images = torch.cat([train.images, test.images])
    assert images.dtype == torch.uint8
    assert images.shape == (1797, 1, 28, 28)
    assert (images.min(), images.max()) == (0, 255)
    # The first test image is the first of the stored ones: compare both, shrunk to 4x4.
    small = torch.from_numpy(load_digits().images[:1]).float() * 255 / 16
    pooled = torch.nn.functional.adaptive_avg_pool2d(test.images[0].float(), 4)
    assert torch.allclose(pooled, torch.nn.functional.adaptive_avg_pool2d(small, 4), atol=20)


def test_the_holdout_is_taken_from_the_training_images() -> None:
    data = DigitsDataModule(holdout=237, evaluate_on="holdout")
    assert (data.num_train, data.num_val, data.num_test) == (1200, 0, 237)
