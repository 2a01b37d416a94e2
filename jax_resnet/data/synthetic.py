"""A data set made by a seed: learnable, not trivial, and there without a download.

Five textures in two sizes make ten classes. A flip, a shift or a small rotation
keeps the class. Phase, colours and contrast are drawn per image, so that the mean
image of every class is the same grey, and a linear classifier of the pixels fails.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int32, UInt8

NAME = "synthetic"
CLASS_NAMES = tuple(
    f"{size} {texture}"
    for size in ("fine", "coarse")
    for texture in ("rows", "columns", "diamonds", "grid", "rings")
)
IMAGE_SHAPE = (32, 32, 3)
SIZES = {"train": 4096, "test": 1024}

_PERIODS = (5.0, 10.0)  # pixels, fine and coarse
_NOISE = 32.0  # standard deviation, grey levels


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """The data set of one seed, read like a prepared one."""

    seed: int = 0
    name: str = NAME
    version: str = "1"
    folder: None = None
    image_shape: tuple[int, int, int] = IMAGE_SHAPE
    class_names: tuple[str, ...] = CLASS_NAMES
    superclass_names: tuple[str, ...] = ()

    @property
    def shards(self) -> dict[str, tuple[int, ...]]:
        """For each split its number of images, as if in one file."""
        return {split: (n,) for split, n in SIZES.items()}

    def fingerprint(self) -> str:
        """There are no files that could change."""
        return str(self.seed)

    def superclass_of(self) -> tuple[int, ...]:
        """There are no superclasses."""
        return ()

    def decode(
        self, split: str
    ) -> tuple[UInt8[np.ndarray, "n 32 32 3"], Int32[np.ndarray, " n"]]:
        """Makes a split: 4096 images of ``train``, 1024 of ``test``.

        Returns:
          Images, uint8 [n, 32, 32, 3], and labels, int32 [n]: the classes as even as
          can be, in random order.
        """
        rng = np.random.default_rng([self.seed, list(SIZES).index(split)])
        n = SIZES[split]
        labels = rng.permutation(np.arange(n, dtype=np.int32) % len(CLASS_NAMES))
        pattern = _patterns(labels, rng)[..., None]
        # Each colour channel swings about mid grey with its own sign and strength.
        swing = rng.uniform(8, 48, (n, 1, 1, 3)) * rng.choice((-1, 1), (n, 1, 1, 3))
        middle = rng.uniform(108, 148, (n, 1, 1, 3))
        noise = _NOISE * rng.standard_normal((n, *IMAGE_SHAPE), np.float32)
        images = middle.astype(np.float32) + pattern * swing.astype(np.float32) + noise
        return np.clip(np.rint(images), 0, 255).astype(np.uint8), labels


def _patterns(
    labels: Int32[np.ndarray, " n"], rng: np.random.Generator
) -> Float[np.ndarray, "n 32 32"]:
    """Draws the texture of each image, between -1 and 1."""
    n = len(labels)
    size, texture = np.divmod(labels, len(CLASS_NAMES) // 2)
    period = np.asarray(_PERIODS)[size] * rng.uniform(0.9, 1.1, n)
    wave = (2 * np.pi / period).astype(np.float32)[:, None, None]
    phase = rng.uniform(0, 2 * np.pi, (2, n, 1, 1)).astype(np.float32)
    center = rng.uniform(8, 24, (2, n, 1, 1)).astype(np.float32)
    y, x = np.mgrid[:32, :32].astype(np.float32)[:, None]
    diagonal = np.float32(np.sqrt(0.5))

    patterns = np.empty((n, 32, 32), np.float32)
    for index in range(len(CLASS_NAMES) // 2):
        own = texture == index
        k, (p, q), (cy, cx) = wave[own], phase[:, own], center[:, own]
        if index == 0:
            patterns[own] = np.sin(k * y + p)
        elif index == 1:
            patterns[own] = np.sin(k * x + p)
        elif index == 2:
            patterns[own] = np.sin(k * y + p) * np.sin(k * x + q)
        elif index == 3:
            down, up = diagonal * (x + y), diagonal * (x - y)
            patterns[own] = np.sin(k * down + p) * np.sin(k * up + q)
        else:
            patterns[own] = np.sin(k * np.hypot(y - cy, x - cx) + p)
    return patterns
