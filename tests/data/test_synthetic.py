import numpy as np
import pytest

from jax_resnet.data.synthetic import INFO, Synthetic


@pytest.fixture(scope="module")
def splits():
    return {split: Synthetic().decode(split) for split in ("train", "test")}


def test_classes_and_normalization(splits):
    for split in splits.values():
        counts = np.bincount(split.labels)
        assert len(counts) == INFO.num_classes
        assert counts.max() - counts.min() <= 1
        scaled = split.images / 255
        np.testing.assert_allclose(INFO.mean, scaled.mean((0, 1, 2)), atol=5e-3)
        np.testing.assert_allclose(INFO.std, scaled.std((0, 1, 2)), atol=5e-3)


def test_a_linear_classifier_of_the_pixels_fails(splits):
    train, test = splits.values()
    # Ridge regression on the pixels of every fourth row and column.
    pixels, new_pixels = (
        split.images[:, ::4, ::4].reshape(len(split.labels), -1) / 255 - 0.5
        for split in (train, test)
    )
    gram = pixels.T @ pixels + 10 * np.eye(pixels.shape[1])
    weights = np.linalg.solve(gram, pixels.T @ np.eye(10)[train.labels])
    assert ((new_pixels @ weights).argmax(1) == test.labels).mean() < 0.6
