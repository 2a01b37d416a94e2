import numpy as np
import pytest

from jax_resnet.data.synthetic import INFO, Synthetic


@pytest.mark.slow
def test_classes_and_normalization():
    for name in ("train", "test"):
        split, again = (Synthetic().decode(name) for _ in range(2))
        np.testing.assert_array_equal(split.images, again.images)
        counts = np.bincount(split.labels)
        assert len(counts) == INFO.num_classes
        assert counts.max() - counts.min() <= 1
        scaled = split.images / 255
        np.testing.assert_allclose(INFO.mean, scaled.mean((0, 1, 2)), atol=5e-3)
        np.testing.assert_allclose(INFO.std, scaled.std((0, 1, 2)), atol=5e-3)
