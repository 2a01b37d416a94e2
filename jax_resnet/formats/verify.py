"""Verifies that an exported model is the restored one."""

from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from jax_resnet import data
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.data import sources
from jax_resnet.formats import Probabilities
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError

TOLERANCE = 1e-4  # of probabilities
TIE = 1e-6  # in float32, two classes closer than this are equally probable
BATCH = 500
RANDOM_IMAGES = 64


def check_finite(predictor: Predictor) -> None:
    """Raises UserError if the model has diverged."""
    for name, array in predictor.stored.arrays.items():
        if not np.isfinite(array).all():
            raise UserError(
                f"the model's {name!r} is not finite, as after a run that diverged: "
                "export another checkpoint or model"
            )


def compare_arrays(loaded: Predictor, predictor: Predictor) -> int:
    """Compares two models array by array; returns the number of arrays.

    Raises UserError if weights, metadata, step or temperature differ.
    """
    found, expected = loaded.stored, predictor.stored
    if replace(found, arrays={}) != replace(expected, arrays={}) or not all(
        np.array_equal(found.arrays[k], v) for k, v in expected.arrays.items()
    ):
        raise _not_the_model("arrays or metadata differ")
    return len(expected.arrays)


def compare_outputs(
    exported: Probabilities, predictor: Predictor, images: UInt8[np.ndarray, "n h w c"]
) -> tuple[float, int]:
    """Compares two models' probabilities, for a single image and for large batches.

    Returns the greatest difference of a probability, and the number of images whose
    top-1 class differs because two classes are equally probable, to within :data:`TIE`.
    Raises UserError for any other difference, beyond :data:`TOLERANCE`.
    """
    expected = predictor.predict(images)
    starts = range(1, len(images), BATCH)
    batches = [images[:1], *(images[start : start + BATCH] for start in starts)]
    found = np.concatenate([exported(batch) for batch in batches])
    if found.shape != expected.shape:
        raise _not_the_model(f"shape {found.shape}, not {expected.shape}")
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:  # NaN
        raise _not_the_model(f"a probability differs by {difference:.2g}")
    top1 = found.argmax(1)
    different = top1 != expected.argmax(1)
    gap = expected.max(1) - expected[np.arange(len(expected)), top1]
    if wrong := int((different & (gap > TIE)).sum()):
        raise _not_the_model(f"top-1 differs on {wrong} of {len(images)} images")
    return difference, int(different.sum())


def comparison_images(
    metadata: RunMetadata, data_dir: str | None
) -> tuple[UInt8[np.ndarray, "n h w c"], str]:
    """Returns the images that a run was evaluated on, or random ones without its data.

    Nothing is downloaded or prepared. ``data_dir`` None means the run's own. With the
    images comes their description, with the reason if they are random.
    """
    info, settings = metadata.dataset, metadata.config["data"]
    name, split = settings["name"], metadata.run.eval_name
    try:
        if not sources.is_prepared(name, data_dir or settings["dir"] or None):
            raise UserError(f"{name} is not at hand")
        found, images = data.load_kept_split(settings, split, data_dir)
        if found.image_shape != info.image_shape:
            raise UserError(f"the {name} at hand has images of another shape")
    except UserError as error:
        shape = RANDOM_IMAGES, *info.image_shape
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        return noise, f"{RANDOM_IMAGES} random images, because {error}"
    return images.images, f"all {len(images.images):,} images of {info.name} {split}"


def _not_the_model(difference: str) -> UserError:
    return UserError(
        f"the exported model is not the restored one ({difference}), so it was not "
        "kept: please report this"
    )
