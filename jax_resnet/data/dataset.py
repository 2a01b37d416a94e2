"""Describes and loads data sets: training and validation images, or any split."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jax_resnet.data import cache, sources, splits
from jax_resnet.data.checks import warn_of_duplicates
from jax_resnet.data.source import DatasetInfo, Source, Split
from jax_resnet.runtime.errors import UserError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """A data set, loaded for training."""

    info: DatasetInfo  # names, shapes and normalisation constants
    train: Split  # the training images
    evaluation: Split  # the images that validate after each epoch
    eval_name: str  # the name of their split


@dataclass(frozen=True)
class Description:
    """A data set, before its images are loaded."""

    info: DatasetInfo  # names, shapes and normalisation constants
    n_train: int  # number of training images
    n_eval: int  # number of images that validate
    load: Callable[[], Dataset]  # decodes the images or reads them from the cache


def describe(
    name: str,
    *,
    data_dir: str | None,
    train_split: str = "train",
    eval_split: str = "test",
    holdout: int = 0,
    cache_dir: str | None = None,
    resolution: int = sources.RESOLUTION,
) -> Description:
    """Finds a data set for training, so that it can load while a model compiles.

    Args:
      name: a TFDS name, ``synthetic``, ``folder`` or ``arrays``.
      data_dir: the folder of prepared data; None means ``$TFDS_DATA_DIR``, or else
        TFDS's own default. CIFAR-10 and CIFAR-100 are prepared there if they are
        missing, from an archive in ``downloads/manual`` or over the network. For
        ``folder`` it is the folder of the images, for ``arrays`` an ``.npz`` file; see
        :func:`~jax_resnet.data.folder_source.open_folder` and
        :func:`~jax_resnet.data.arrays_source.open_arrays`.
      train_split: a TFDS expression.
      eval_split: a TFDS expression.
      holdout: if not 0, ``evaluation`` is this many images of ``train_split``, which
        leave ``train``: see :func:`~jax_resnet.data.splits.holdout_mask`.
      cache_dir: the folder for decoded images; None means the user's cache folder.
      resolution: width and height of the images of a ``folder``, in pixels. The other
        sets have the size that they are stored in.

    Raises:
      UserError: an argument is wrong, or the data is missing or damaged.
    """
    source = sources.open_source(name, data_dir, resolution)
    n_train = splits.size(train_split, source)
    if not 0 <= holdout < n_train:
        raise UserError(
            f"data.holdout is {holdout}: it must be from 0 to {n_train - 1}, because "
            f"{train_split!r} has {n_train} images"
        )
    n_eval = holdout or splits.size(eval_split, source)
    info = cache.normalized_info(source, cache_dir)

    def load() -> Dataset:
        train = _read(source, train_split, cache_dir)
        if holdout:
            out = splits.holdout_mask(train.images, train.labels, holdout)
            held_out = train.select(out)
            dataset = Dataset(info, train.select(~out), held_out, splits.HOLDOUT)
        else:
            evaluation = _read(source, eval_split, cache_dir)
            dataset = Dataset(info, train, evaluation, eval_split)
            if splits.overlap(train_split, eval_split, source):
                _log.warning("%s and %s have images in common", train_split, eval_split)
                return dataset
        warn_of_duplicates(dataset.train, dataset.evaluation, dataset.eval_name)
        return dataset

    return Description(info, n_train - holdout, n_eval, load)


def load(name: str, **selection: Any) -> Dataset:
    """Loads a data set for training; takes and raises what :func:`describe` does."""
    return describe(name, **selection).load()


def load_split(
    name: str,
    split: str,
    *,
    data_dir: str | None,
    cache_dir: str | None = None,
    train_split: str = "train",
    holdout: int = 0,
    resolution: int = sources.RESOLUTION,
) -> tuple[DatasetInfo, Split]:
    """Loads one split, for evaluation.

    Takes and raises what :func:`describe` does. ``split`` is a TFDS expression, or
    ``holdout``, for which alone ``train_split`` and ``holdout`` matter.
    """
    if split == splits.HOLDOUT:
        if not holdout:
            raise UserError("no images were held out: name another split than holdout")
        dataset = load(
            name,
            data_dir=data_dir,
            cache_dir=cache_dir,
            train_split=train_split,
            holdout=holdout,
            resolution=resolution,
        )
        return dataset.info, dataset.evaluation
    source = sources.open_source(name, data_dir, resolution)
    return cache.normalized_info(source, cache_dir), _read(source, split, cache_dir)


def _read(source: Source, expression: str, cache_dir: str | None) -> Split:
    """Returns the images that a TFDS expression selects."""
    slices = splits.resolve(expression, source)
    stored = {name: cache.read(source, name, cache_dir) for name, _ in slices}
    parts = [stored[name].select(part) for name, part in slices]
    if len(parts) == 1:
        return parts[0]
    return Split(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        None
        if any(part.names is None for part in parts)
        else np.concatenate([part.names for part in parts]),
    )


def load_kept_split(
    settings: Mapping[str, Any], split: str, data_dir: str | None
) -> tuple[DatasetInfo, Split]:
    """Loads one split with the settings in the group ``data`` of a kept config.

    ``data_dir`` None means the kept one. Raises what :func:`describe` does.
    """
    return load_split(
        settings["name"],
        split,
        data_dir=data_dir or settings["dir"] or None,
        cache_dir=settings["cache_dir"] or None,
        train_split=settings["train_split"],
        holdout=settings["holdout"],
        resolution=settings.get("resolution", sources.RESOLUTION),
    )
