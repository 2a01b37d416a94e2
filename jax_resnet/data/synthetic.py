"""Makes a small data set from a seed, for tests and first steps without a download.

Five textures in two sizes make ten classes. A flip, a shift or a small rotation
keeps the class. Phase, colours and contrast are drawn for each image, so that the
mean image of every class is the same grey, and a linear classifier of the pixels
fails.
"""

import functools

import numpy as np
from jaxtyping import Float, Int32

from jax_resnet.data.source import DatasetInfo, Source, Split

NAME = "synthetic"
INFO = DatasetInfo(
    name=NAME,
    version="1",
    image_shape=(32, 32, 3),
    class_names=tuple(
        f"{size} {texture}"
        for size in ("fine", "coarse")
        for texture in ("rows", "columns", "diamonds", "grid", "rings")
    ),
    superclass_names=(),
    superclass_of=(),
    mean=(0.5, 0.5, 0.5),
    std=(0.15, 0.15, 0.15),
)
SIZES = {"train": 4096, "test": 1024}

_PERIODS = (5.0, 10.0)  # pixels, fine and coarse
_NOISE = 32.0  # standard deviation, grey levels


class Synthetic(Source):
    """The data set itself; each split is spread evenly over the classes."""

    def __init__(self) -> None:
        super().__init__(INFO, {split: (n,) for split, n in SIZES.items()}, None)

    def decode(self, split: str) -> Split:
        """Returns the images of a split, as :meth:`Source.decode` says."""
        return _drawn(split)


@functools.cache
def _drawn(split: str) -> Split:
    """Draws a split, once in a process."""
    rng = np.random.default_rng([0, list(SIZES).index(split)])
    n = SIZES[split]
    labels = rng.permutation(np.arange(n, dtype=np.int32) % INFO.num_classes)
    pattern = _patterns(labels, rng)[..., None]
    # Each colour channel swings about mid grey with its own sign and strength.
    swing = rng.uniform(8, 48, (n, 1, 1, 3)) * rng.choice((-1, 1), (n, 1, 1, 3))
    middle = rng.uniform(108, 148, (n, 1, 1, 3))
    noise = _NOISE * rng.standard_normal((n, *INFO.image_shape), np.float32)
    grey_levels = middle.astype(np.float32) + pattern * swing.astype(np.float32) + noise
    images = np.clip(np.rint(grey_levels), 0, 255).astype(np.uint8)
    for array in (images, labels):
        array.setflags(write=False)  # all who ask get the same
    return Split(images, labels)


def _patterns(
    labels: Int32[np.ndarray, " n"], rng: np.random.Generator
) -> Float[np.ndarray, "n 32 32"]:
    """Draws the texture of each image, between -1 and 1."""
    n = len(labels)
    size, texture = np.divmod(labels, INFO.num_classes // 2)
    period = np.asarray(_PERIODS)[size] * rng.uniform(0.9, 1.1, n)
    k = (2 * np.pi / period).astype(np.float32)[:, None, None]
    p, q = rng.uniform(0, 2 * np.pi, (2, n, 1, 1)).astype(np.float32)
    cy, cx = rng.uniform(8, 24, (2, n, 1, 1)).astype(np.float32)
    y, x = np.mgrid[:32, :32].astype(np.float32)[:, None]
    down, up = np.float32(np.sqrt(0.5)) * np.stack([x + y, x - y])
    patterns = [
        np.sin(k * y + p),
        np.sin(k * x + p),
        np.sin(k * y + p) * np.sin(k * x + q),
        np.sin(k * down + p) * np.sin(k * up + q),
        np.sin(k * np.hypot(y - cy, x - cx) + p),
    ]
    return np.choose(texture[:, None, None], patterns)
