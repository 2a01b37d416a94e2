"""Selects the images of a split: TFDS expressions, and the stratified holdout."""

import hashlib

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from jax_resnet.data.source import Source, Split
from jax_resnet.runtime.errors import UserError, nearest

HOLDOUT = "holdout"  # the split of the images that are held out of training
TEST_SHARE = 0.2  # of images that are not stored as training and test images


def resolve(expression: str, source: Source) -> list[tuple[str, slice]]:
    """Resolves a TFDS split expression such as ``train[:80%]+test[100:]``.

    See https://www.tensorflow.org/datasets/splits. Returns slices of stored splits in
    the order of the expression, without empty ones. Raises UserError if the expression
    is wrong, names a split that the source does not have, or selects no image.
    """
    import tensorflow_datasets as tfds  # slow, and not always needed

    lengths = source.shard_lengths
    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=list(shards), num_bytes=0)
        for name, shards in lengths.items()
    }
    for term in expression.split("+"):
        name = term.partition("[")[0].strip()
        if name and name not in (*lengths, "all"):
            hint = nearest(name, {*lengths, HOLDOUT} - {name})
            known = " and ".join(lengths)
            raise UserError(
                f"{source.info.name} has no split {name!r}, only {known}{hint}"
            )
    try:
        parts = tfds.core.ReadInstruction.from_spec(expression).to_absolute(infos)
    except (ValueError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"split {expression!r} cannot be read: {reason}") from error
    slices = []
    for part in parts:
        start = part.from_ or 0
        stop = sum(lengths[part.splitname]) if part.to is None else part.to
        if start < stop:
            slices.append((part.splitname, slice(start, stop)))
    if not slices:
        raise UserError(f"split {expression!r} selects no image")
    return slices


def size(expression: str, source: Source) -> int:
    """Returns the number of images that an expression selects."""
    return sum(part.stop - part.start for _, part in resolve(expression, source))


def overlap(one: str, other: str, source: Source) -> bool:
    """Returns whether two expressions select an image in common."""
    return any(
        a_split == b_split and a.start < b.stop and b.start < a.stop
        for a_split, a in resolve(one, source)
        for b_split, b in resolve(other, source)
    )


def holdout_mask(
    images: UInt8[np.ndarray, "n h w c"], labels: Int32[np.ndarray, " n"], count: int
) -> Bool[np.ndarray, " n"]:
    """Chooses ``count`` images to hold out, stratified by class.

    The images of each class are sorted by a hash of their pixels, and the last of them
    are held out, so the choice does not depend on the order of the images. The share of
    a class is rounded by largest remainders, ties in favour of the lower class.
    """
    hashes = b"".join(
        hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest()
        for image in images
    )
    order = np.lexsort((np.frombuffer(hashes, ">u8"), labels))
    sizes = np.bincount(labels)
    quotas, remainders = np.divmod(count * sizes, len(labels))
    rounded_up = np.argsort(-remainders, kind="stable")[: count - quotas.sum()]
    quotas[rounded_up] += 1
    mask = np.zeros(len(labels), bool)
    for end, quota in zip(np.cumsum(sizes), quotas, strict=True):
        mask[order[end - quota : end]] = True
    return mask


def test_size(count: int) -> int:
    """Returns how many of ``count`` images :func:`split_off_test` makes test images."""
    return max(1, round(TEST_SHARE * count))


def split_off_test(everything: Split) -> dict[str, Split]:
    """Returns the splits ``train`` and ``test`` of images that are stored as one.

    The test images are a fifth, chosen as :func:`holdout_mask` says. A class of two
    images or more keeps a training image.
    """
    count = test_size(len(everything.images))
    test = holdout_mask(everything.images, everything.labels, count)
    return {"train": everything.select(~test), "test": everything.select(test)}
