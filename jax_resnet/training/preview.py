"""A preview of a run's training images, as stored and as the network sees them."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Array, Float32, Int, Key, UInt8

from jax_resnet.data import DatasetInfo, Split
from jax_resnet.reporting.augmentations import ImageViews
from jax_resnet.training.loss import Loss

_IMAGES = 8  # an even number, as some recipes mix pairs
_EPOCHS = 8


def preview(
    loss: Loss, chosen: Split, info: DatasetInfo, key: Key[Array, ""]
) -> list[ImageViews]:
    """Returns training images that :func:`choose` has chosen, and their views.

    The loss prepares them as in training: each view is of another epoch, the first
    ones, with keys derived from the key of the run's steps.
    """
    # The teacher, if there is one, looks at images and does not change them.
    loss = replace(loss, teacher=None)
    images, labels = chosen.images, chosen.labels

    @jax.jit
    def see(
        images: UInt8[Array, "b h w c"],
        labels: Int[Array, " b"],
        key: Key[Array, ""],
        epoch: Int[Array, ""],
    ) -> tuple[Array, Array | None]:
        keys = jax.random.split(jax.random.fold_in(key, epoch), len(labels))
        batch = loss.prepare_batch(images, labels, keys, epoch)
        return batch["images"], batch.get("share")

    views = [see(images, labels, key, np.int32(epoch)) for epoch in range(_EPOCHS)]
    inputs, shares = zip(*jax.device_get(views), strict=True)
    seen = [to_pixels(batch, info.mean, info.std) for batch in inputs]
    return [
        ImageViews(
            info.class_names[label],
            images[i],
            [batch[i] for batch in seen],
            [] if shares[0] is None else [float(share[i]) for share in shares],
        )
        for i, label in enumerate(labels)
    ]


def choose(train: Split) -> Split:
    """Returns a copy of some training images, spread evenly over the classes."""
    places = spread(train.labels)
    return Split(train.images[places], train.labels[places])


def spread(labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " images"]:
    """Returns which images to show: evenly spaced ones, in the order of the labels."""
    places = (np.arange(_IMAGES) + 0.5) / _IMAGES * len(labels)
    return np.argsort(labels, kind="stable")[places.astype(int)]


def to_pixels(
    inputs: Float32[np.ndarray, "b h w c"], mean: Sequence[float], std: Sequence[float]
) -> UInt8[np.ndarray, "b h w c"]:
    """Undoes the normalisation, and rounds; values beyond black and white are cut."""
    scaled = 255 * (inputs * np.asarray(std) + np.asarray(mean))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
