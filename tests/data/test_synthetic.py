import time

import numpy as np

from jax_resnet.data.synthetic import CLASS_NAMES, IMAGE_SHAPE, Synthetic


def test_the_seed_decides():
    images, labels = Synthetic().decode("test")
    again, _ = Synthetic().decode("test")
    np.testing.assert_array_equal(images, again)
    other, other_labels = Synthetic(seed=1).decode("test")
    assert (images != other).mean() > 0.9
    assert (labels != other_labels).any()


def test_shapes_and_classes():
    for split, (n,) in Synthetic().shards.items():
        images, labels = Synthetic().decode(split)
        assert images.shape == (n, *IMAGE_SHAPE)
        assert images.dtype == np.uint8
        assert labels.dtype == np.int32
        counts = np.bincount(labels)
        assert len(counts) == len(CLASS_NAMES)
        assert counts.max() - counts.min() <= 1


def test_train_and_test_differ():
    train, _ = Synthetic().decode("train")
    test, _ = Synthetic().decode("test")
    assert not {image.tobytes() for image in train} & {x.tobytes() for x in test}


def test_made_quickly():
    started = time.process_time()
    Synthetic().decode("train")
    assert time.process_time() - started < 2


def test_learnable_but_not_by_a_linear_classifier():
    (train, labels), (test, expected) = map(Synthetic().decode, ("train", "test"))

    def accuracy(scores):
        return (scores.argmax(1) == expected).mean()

    # Ridge regression on the pixels of every second row and column.
    pixels, new_pixels = (
        x[:, ::2, ::2].reshape(len(x), -1).astype(float) / 255 - 0.5
        for x in (train, test)
    )
    targets = np.eye(10)[labels]
    for ridge in (10, 1000):
        gram = pixels.T @ pixels + ridge * np.eye(pixels.shape[1])
        assert accuracy(new_pixels @ np.linalg.solve(gram, pixels.T @ targets)) < 0.6

    # The strength of each frequency tells the classes apart: nearest mean spectrum.
    def spectrum(images):
        grey = images.astype(np.float32) - images.mean((1, 2), keepdims=True)
        strength = np.abs(np.fft.rfft2(grey, axes=(1, 2))).sum(-1)
        strength = strength.reshape(len(images), -1)
        return strength / np.linalg.norm(strength, axis=1, keepdims=True)

    spectra = spectrum(train)
    means = np.stack([spectra[labels == k].mean(0) for k in range(10)])
    assert accuracy(spectrum(test) @ means.T) > 0.95
