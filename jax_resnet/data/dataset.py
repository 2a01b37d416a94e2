"""Data sets as uint8 arrays: any prepared TFDS set of small images, and our own.

Importing this is quick; what needs ``tensorflow_datasets`` is imported on use.
"""

import dataclasses
import logging
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from jax_resnet.data import sources, splits
from jax_resnet.data.sources import Normalization, Source
from jax_resnet.runtime.errors import UserError

HOLDOUT = "holdout"  # the split that is held out of training
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set beside its images.

    Attributes:
      name: TFDS name, or ``synthetic``.
      version: such as ``3.0.2``.
      image_shape: height, width, channels.
      class_names: in the order of the labels.
      superclass_names: empty if the set has none.
      superclass_of: a superclass index per class; empty if there are none.
      mean: of each channel of x/255 over the training images.
      std: standard deviation, likewise.
    """

    name: str
    version: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    superclass_names: tuple[str, ...]
    superclass_of: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)


@dataclasses.dataclass(frozen=True)
class Split:
    """Images, uint8 [n, h, w, c], and their labels, int32 [n]."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set, loaded for training.

    Attributes:
      info: what is known of it.
      train: the training images.
      evaluation: the images that validate after each epoch.
      eval_name: which these are, as :func:`load_split` takes it.
    """

    info: DatasetInfo
    train: Split
    evaluation: Split
    eval_name: str


@dataclasses.dataclass(frozen=True)
class Description:
    """What is known of a data set before an image is decoded.

    Attributes:
      info: of the data set; None if the normalisation constants have yet to be
        computed from the images.
      n_train: number of training images.
      n_eval: number of images that validate.
    """

    info: DatasetInfo | None
    n_train: int
    n_eval: int
    _source: Source
    _train_split: str
    _eval_split: str
    _holdout: int
    _cache_dir: str | None

    def load(self) -> Dataset:
        """Decodes the images, or takes them from the cache.

        Raises:
          UserError: the data is damaged.
        """
        source = self._source
        train = _read(source, self._train_split, self._cache_dir)
        if self._holdout:
            train, evaluation = _hold_out(train, self._holdout)
            eval_name = HOLDOUT
        else:
            eval_name = self._eval_split
            if splits.overlap(self._train_split, eval_name, source.shards):
                _log.warning(
                    "%s and %s have images in common", self._train_split, eval_name
                )
            evaluation = _read(source, eval_name, self._cache_dir)
        info = _info(source, sources.normalization(source, self._cache_dir))
        return Dataset(info, train, evaluation, eval_name)


def describe(
    name: str,
    *,
    data_dir: str | None,
    train_split: str = "train",
    eval_split: str = "test",
    holdout: int = 0,
    cache_dir: str | None = None,
) -> Description:
    """Finds a data set for training, soon enough to compile while it is loaded.

    Args:
      name: a TFDS name, or ``synthetic``.
      data_dir: holds prepared data; None means ``$TFDS_DATA_DIR``, or else TFDS's
        own default. CIFAR-10 and CIFAR-100 are prepared there if they are missing,
        from an archive in ``downloads/manual`` or over the network.
      train_split: a TFDS expression.
      eval_split: a TFDS expression.
      holdout: if not 0, this many images of ``train_split``, stratified by class and
        chosen whatever their order, are ``evaluation`` instead, and not ``train``.
      cache_dir: for decoded images; None means the user's cache folder.

    Raises:
      UserError: the name, a split or ``holdout`` is wrong, or the data is missing
        or damaged.
    """
    source = sources.open_source(name, data_dir)
    n_train, n_eval = _sizes(source, train_split, eval_split, holdout)
    normalization = sources.known_normalization(source, cache_dir)
    return Description(
        info=None if normalization is None else _info(source, normalization),
        n_train=n_train,
        n_eval=n_eval,
        _source=source,
        _train_split=train_split,
        _eval_split=eval_split,
        _holdout=holdout,
        _cache_dir=cache_dir,
    )


def load(name: str, **selection: Any) -> Dataset:
    """Loads a data set for training; arguments and errors are :func:`describe`'s."""
    return describe(name, **selection).load()


def load_split(
    name: str,
    split: str,
    *,
    data_dir: str | None,
    cache_dir: str | None = None,
    train_split: str = "train",
    holdout: int = 0,
) -> tuple[DatasetInfo, Split]:
    """Loads one split, for evaluation.

    Args:
      name: as in :func:`describe`.
      split: a TFDS expression; or ``holdout``, the images that :func:`describe` holds
        out with the same ``train_split`` and ``holdout``.
      data_dir: as in :func:`describe`.
      cache_dir: as in :func:`describe`.
      train_split: only matters for ``holdout``.
      holdout: only matters for ``holdout``.

    Raises:
      UserError: as :func:`describe`.
    """
    source = sources.open_source(name, data_dir)
    if split == HOLDOUT:
        if not holdout:
            raise UserError("no images were held out: name another split than holdout")
        _sizes(source, train_split, train_split, holdout)
        _, images = _hold_out(_read(source, train_split, cache_dir), holdout)
    else:
        images = _read(source, split, cache_dir)
    return _info(source, sources.normalization(source, cache_dir)), images


def _info(source: Source, normalization: Normalization) -> DatasetInfo:
    superclass_of = source.superclass_of()
    return DatasetInfo(
        name=source.name,
        version=source.version,
        image_shape=source.image_shape,
        class_names=source.class_names,
        superclass_names=source.superclass_names if superclass_of else (),
        superclass_of=superclass_of,
        mean=normalization[0],
        std=normalization[1],
    )


def _sizes(
    source: Source, train_split: str, eval_split: str, holdout: int
) -> tuple[int, int]:
    """Returns how many images train and how many validate; UserError if none."""
    n_train = splits.size(splits.resolve(train_split, source.shards))
    if not 0 <= holdout < n_train:
        raise UserError(
            f"data.holdout is {holdout}: it must be from 0 to {n_train - 1}, because "
            f"{train_split!r} has {n_train} images"
        )
    if holdout:
        return n_train - holdout, holdout
    return n_train, splits.size(splits.resolve(eval_split, source.shards))


def _hold_out(split: Split, count: int) -> tuple[Split, Split]:
    """Returns the images that stay, and those held out."""
    out = splits.holdout_mask(split.images, split.labels, count)
    return (
        Split(split.images[~out], split.labels[~out]),
        Split(split.images[out], split.labels[out]),
    )


def _read(source: Source, expression: str, cache_dir: str | None) -> Split:
    """Returns the images that a TFDS expression selects."""
    pieces = splits.resolve(expression, source.shards)
    stored = {
        name: sources.decode(source, name, cache_dir)
        for name in dict.fromkeys(piece.stored for piece in pieces)
    }
    parts = [
        [array[start:stop] for array in stored[name]] for name, start, stop in pieces
    ]
    if len(parts) == 1:
        return Split(*parts[0])
    return Split(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
