"""Tiny models with random weights and statistics, so that every array matters."""

import functools
from dataclasses import replace

import jax
import numpy as np
from metadata_fixtures import run_metadata

from jax_resnet.checkpoint.metadata import Architecture
from jax_resnet.checkpoint.model_folder import StoredModel
from jax_resnet.model import resnet, weights
from jax_resnet.predictor import Predictor


@functools.cache
def make_predictor(*, channels=3, temperature=1.7, seed=0, step=9, **changes):
    """ResNet-8 on eight by eight pixels; ``changes`` are of the architecture."""
    metadata = run_metadata()
    architecture = Architecture(**metadata.model | {"in_channels": channels} | changes)
    metadata = replace(
        metadata,
        model=architecture,
        dataset=replace(
            metadata.dataset,
            image_shape=(8, 8, channels),
            class_names=tuple("abcdefghij"[: architecture["num_classes"]]),
            mean=(0.4, 0.5, 0.45)[:channels],
            std=(0.2, 0.25, 0.22)[:channels],
        ),
    )
    _, params, batch_stats = jax.eval_shape(
        lambda: weights.split(resnet.initialize(None, **architecture))
    )
    generator = np.random.default_rng(seed)

    def draw(name, shape):
        if name.endswith("kernel"):
            array = generator.normal(0, np.prod(shape[:-1]) ** -0.5, shape)
        else:
            low, high = (-0.3, 0.3) if name.endswith(("bias", "mean")) else (0.5, 1.5)
            array = generator.uniform(low, high, shape)
        return array.astype(np.float32)

    arrays = {
        f"state.{kind}.{name}": draw(name, leaf.shape)
        for kind, leaves in {"params": params, "batch_stats": batch_stats}.items()
        for name, leaf in leaves.items()
    }
    return Predictor(StoredModel(metadata, arrays, step, temperature))


def random_images(predictor, count=7):
    shape = (count, *predictor.info.image_shape)
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def same_arrays(predictor, other):
    expected, found = predictor.stored.arrays, other.stored.arrays
    assert set(expected) == set(found)
    return all(np.array_equal(expected[name], found[name]) for name in expected)
