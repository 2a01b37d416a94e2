"""The reference recipe, images and draws for the tests of augmentation."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jax_resnet import config
from jax_resnet.augment import compose

REFERENCE = Path(__file__).parent.parent / "configs" / "resnet56.py"
SETTINGS = config.load(str(REFERENCE)).augment.to_dict()
RECIPE = SETTINGS.pop("transforms")
CONSTANTS = {"mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)}
DRAWS = 10_000
# Seeds are fixed, so these tests always give the same answer; a wrong distribution
# has a p-value of practically 0 at 10,000 draws.
LEAST_P = 1e-3
COMPILED = {
    name: jax.jit(partial(getattr(compose, name), **settings))
    for name, settings in SETTINGS.items()
}


def pictures(count, height=32, width=32, channels=3, seed=0):
    """Noise, with patches of extreme levels so that clipping happens."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, height, width, channels), np.uint8)
    images[:, : height // 4] //= 8
    images[:, -height // 4 :] |= 0xE0
    return jnp.asarray(images)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def over_keys(function, count=DRAWS, seed=0):
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(function))(keys(count, seed=seed)))


def assert_uniform(values, low, high):
    assert values.min() >= low
    assert values.max() <= high
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > LEAST_P


def one_after_the_other(key, image, recipe=RECIPE, constants=CONSTANTS):
    for name, step_key in zip(recipe, jax.random.split(key, len(recipe)), strict=True):
        if name == "normalize":
            image = compose.normalize(image, **constants)
        else:
            image = COMPILED[name](step_key, image)
    return image
