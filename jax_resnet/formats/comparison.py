"""Whether an exported model says what the restored one says."""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

from jax_resnet import data
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.data import sources
from jax_resnet.formats import Probabilities
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError

TOLERANCE = 1e-4  # of probabilities
# Of two classes closer than this, float32 does not tell which is more probable.
TIE = 1e-6
BATCH = 500
RANDOM_IMAGES = 256


@dataclasses.dataclass(frozen=True)
class Sample:
    """Images to compare models on.

    Attributes:
        images: uint8 [n, h, w, c].
        description: which they are, and if they are random, why.
    """

    images: UInt8[np.ndarray, "n h w c"]
    description: str


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How closely two models agree; top-1 is the same for all but ties.

    Attributes:
        images: how many were compared.
        max_difference: greatest difference of any probability.
        ties: images whose top-1 differs between classes that are equally probable,
            to within :data:`TIE`.
    """

    images: int
    max_difference: float
    ties: int


def sample(metadata: RunMetadata, data_dir: str | None) -> Sample:
    """The split that a run was evaluated on, or random images where it is not at hand.

    Nothing is prepared or downloaded.

    Args:
        metadata: of the run.
        data_dir: of prepared data; None means where the run had it.
    """
    info, settings = metadata.dataset, metadata.config["data"]
    name, split = settings["name"], metadata.run.eval_name
    folder = data_dir or settings["dir"] or None
    try:
        if not sources.is_prepared(name, folder):
            raise UserError(f"{name} is not at hand")
        found, images = data.load_split(
            name,
            split,
            data_dir=folder,
            cache_dir=settings["cache_dir"] or None,
            train_split=settings["train_split"],
            holdout=settings["holdout"],
        )
        if (found.class_names, found.image_shape) != (
            info.class_names,
            info.image_shape,
        ):
            raise UserError(f"the {name} at hand has other classes or images")
    except UserError as error:
        noise = random_sample(info)
        return Sample(noise.images, f"{noise.description}, because {error}")
    count = len(images.images)
    return Sample(images.images, f"all {count:,} images of {info.name} {split}")


def random_sample(info: data.DatasetInfo) -> Sample:
    """Images of noise in the shape of a data set's."""
    shape = (RANDOM_IMAGES, *info.image_shape)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Sample(noise, f"{RANDOM_IMAGES} random images")


def compare(
    exported: Probabilities, predictor: Predictor, images: UInt8[np.ndarray, "n h w c"]
) -> Agreement:
    """Runs both models, the exported one in batches of one and of many images.

    Raises:
        UserError: if top-1 differs anywhere but for ties, or a probability by more
            than :data:`TOLERANCE`, or anything is not finite.
    """
    expected = predictor.predict(images)
    if not np.isfinite(expected).all():
        raise UserError(
            "the restored model's probabilities are not finite: use another "
            "--checkpoint"
        )
    starts = range(1, len(images), BATCH)
    batches = [images[:1], *(images[start : start + BATCH] for start in starts)]
    found = np.concatenate([exported(batch) for batch in batches])
    if found.shape != expected.shape:
        raise _wrong(f"probabilities of shape {found.shape}, not {expected.shape}")
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise _wrong(f"a probability differs by {difference:.2g}")
    different = found.argmax(1) != expected.argmax(1)
    decided = different & (_gap(expected, found) > TIE)
    if decided.any():
        raise _wrong(f"top-1 differs on {decided.sum()} of {len(images)} images")
    return Agreement(len(images), difference, int(different.sum()))


def _gap(
    expected: Float[np.ndarray, "n classes"], found: Float[np.ndarray, "n classes"]
) -> Float[np.ndarray, " n"]:
    """How much less probable than the top-1 the other model's top-1 is."""
    other = np.take_along_axis(expected, found.argmax(1)[:, None], axis=1)[:, 0]
    return expected.max(1) - other


def _wrong(what: str) -> UserError:
    return UserError(
        f"the exported model is not the restored one ({what}), so it was not kept: "
        "please report this"
    )
