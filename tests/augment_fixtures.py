"""The reference augmentations, images and draws for the tests of augmentation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from command_line import ROOT
from scipy import stats

from jax_resnet import config
from jax_resnet.augment import color, erasing, geometry

SETTINGS = config.load(str(ROOT / "configs" / "resnet56.py")).augment.to_dict()
TRANSFORMS = SETTINGS.pop("transforms")
CONSTANTS = {"mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)}
DRAWS = 2000
# Seeds are fixed, so these tests always give the same answer. A wrong distribution has
# a p-value of practically 0.
LEAST_P = 1e-3


def pictures(count, height=32, width=32, channels=3):
    """Noise, with bright and dark patches so that clipping happens."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, height, width, channels), np.uint8)
    images[:, : height // 4] //= 8
    images[:, -height // 4 :] |= 0xE0
    return jnp.asarray(images)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def over_keys(function, count=DRAWS):
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(function))(keys(count)))


def assert_uniform(values, low, high):
    assert values.min() >= low
    assert values.max() <= high
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > LEAST_P


def assert_equally_likely(values, expected):
    found, counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(found, expected)
    assert stats.chisquare(counts).pvalue > LEAST_P


def one_after_the_other(transforms):
    """A function of a key and an image that applies each transform by itself."""

    def apply(key, image):
        step_keys = jax.random.split(key, len(transforms))
        for name, step_key in zip(transforms, step_keys, strict=True):
            settings = SETTINGS.get(name, {})
            if name == "normalize":
                image = color.normalize(image, **CONSTANTS)
            elif hasattr(geometry, name):
                coordinates = geometry.identity(*image.shape[:2])
                change = partial(getattr(geometry, name), **settings)
                image = geometry.sample(image, change(step_key, coordinates))
            else:
                module = color if name == "color_jitter" else erasing
                image = getattr(module, name)(step_key, image, **settings)
        return image

    return apply
