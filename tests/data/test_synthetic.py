import numpy as np
import pytest

from jax_resnet.data.synthetic import INFO, Synthetic


@pytest.fixture(scope="module")
def splits():
    return {split: Synthetic().decode(split) for split in ("train", "test")}


def test_the_same_images_each_time(splits):
    images, labels = Synthetic().decode("test")
    np.testing.assert_array_equal(images, splits["test"][0])
    np.testing.assert_array_equal(labels, splits["test"][1])


def test_classes_and_normalization(splits):
    for images, labels in splits.values():
        counts = np.bincount(labels)
        assert len(counts) == INFO.num_classes
        assert counts.max() - counts.min() <= 1
        scaled = images / 255
        np.testing.assert_allclose(INFO.mean, scaled.mean((0, 1, 2)), atol=5e-3)
        np.testing.assert_allclose(INFO.std, scaled.std((0, 1, 2)), atol=5e-3)


def test_a_linear_classifier_of_the_pixels_fails(splits):
    (train, labels), (test, expected) = splits.values()
    # Ridge regression on the pixels of every fourth row and column.
    pixels, new_pixels = (
        x[:, ::4, ::4].reshape(len(x), -1) / 255 - 0.5 for x in (train, test)
    )
    gram = pixels.T @ pixels + 10 * np.eye(pixels.shape[1])
    weights = np.linalg.solve(gram, pixels.T @ np.eye(10)[labels])
    assert ((new_pixels @ weights).argmax(1) == expected).mean() < 0.6
