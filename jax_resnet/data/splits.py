"""Which images a split is: TFDS expressions, and a stratified holdout."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from jax_resnet.runtime.errors import UserError, nearest


class Piece(NamedTuple):
    """The images ``start`` to ``stop`` (exclusive) of a stored split."""

    stored: str
    start: int
    stop: int


def resolve(expression: str, shards: Mapping[str, Sequence[int]]) -> list[Piece]:
    """Resolves a TFDS split expression such as ``train[:80%]+test[100:]``.

    Args:
      expression: see https://www.tensorflow.org/datasets/splits.
      shards: for each stored split the number of images in each of its shards.

    Returns:
      The pieces, in the order of the expression; none of them is empty.

    Raises:
      UserError: the expression is wrong, or selects no image.
    """
    import tensorflow_datasets as tfds  # half a second, so only when needed

    for name in re.findall(r"(?:^|\+)\s*(\w+)", expression):
        if name not in shards and name != "all":
            raise UserError(
                f"no split {name!r} in {expression!r}: the data set has "
                f"{', '.join(shards)}{nearest(name, shards)}"
            )
    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=list(lengths), num_bytes=0)
        for name, lengths in shards.items()
    }
    try:
        instruction = tfds.core.ReadInstruction.from_spec(expression)
        slices = instruction.to_absolute(infos)
    except (ValueError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"split {expression!r} cannot be read: {reason}") from error
    pieces = []
    for part in slices:
        size = infos[part.splitname].num_examples
        stop = size if part.to is None else part.to
        pieces.append(Piece(part.splitname, part.from_ or 0, stop))
    pieces = [piece for piece in pieces if piece.stop > piece.start]
    if not pieces:
        raise UserError(f"split {expression!r} selects no image")
    return pieces


def size(pieces: Sequence[Piece]) -> int:
    """Returns the number of images in the pieces."""
    return sum(piece.stop - piece.start for piece in pieces)


def overlap(one: str, other: str, shards: Mapping[str, Sequence[int]]) -> bool:
    """Returns whether two expressions select an image in common."""
    return any(
        a.stored == b.stored and a.start < b.stop and b.start < a.stop
        for a in resolve(one, shards)
        for b in resolve(other, shards)
    )


def holdout_mask(
    images: UInt8[np.ndarray, "n h w c"], labels: Int32[np.ndarray, " n"], count: int
) -> Bool[np.ndarray, " n"]:
    """Chooses the images to hold out: stratified, whatever order they are stored in.

    Each class is sorted by a hash of the pixels and gives its last images, as many
    as its share of ``count`` (rounded by largest remainders, ties to the lower
    class). Equal images of one class are interchangeable.

    Args:
      images: uint8 [n, h, w, c].
      labels: int32 [n].
      count: how many to choose, 0 <= count < n.

    Returns:
      bool [n], True for ``count`` images.
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
