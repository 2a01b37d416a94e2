"""Prepared TFDS data sets: what they hold, and their images, without TensorFlow."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from jaxtyping import Int32, UInt8
from tensorflow_datasets.core import read_only_builder
from tensorflow_datasets.proto import tf_example_pb2

from jax_resnet.data import png
from jax_resnet.runtime.errors import UserError, nearest

_BATCH = 1000  # records read and decoded together; the fastest of 250 to 4000


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared set of images of one shape, each with a class.

    Attributes:
      name: TFDS name, with the configuration if there is one (``emnist/letters``).
      version: of the data set, such as ``3.0.2``.
      folder: holds its files.
      image_shape: height, width, channels.
      class_names: in the order of the labels.
      superclass_names: of the feature ``coarse_label``, or empty.
      shards: for each stored split the number of images in each of its files.
      files: for each stored split its files.
    """

    name: str
    version: str
    folder: Path
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    superclass_names: tuple[str, ...]
    shards: dict[str, tuple[int, ...]]
    files: dict[str, tuple[Path, ...]]

    def fingerprint(self) -> str:
        """Identifies the files: it changes when one of them is written again."""
        files = sorted(path for path in self.folder.iterdir() if path.is_file())
        stats = [(path.name, path.stat()) for path in files]
        return json.dumps([(n, s.st_size, s.st_mtime_ns) for n, s in stats])

    def decode(
        self, split: str
    ) -> tuple[UInt8[np.ndarray, "n h w c"], Int32[np.ndarray, " n"]]:
        """Decodes a stored split.

        Returns:
          Images, uint8 [n, h, w, c], and labels, int32 [n], in stored order.

        Raises:
          UserError: a file is missing or damaged, or the images differ in shape.
        """
        count = sum(self.shards[split])
        images = np.empty((count, *self.image_shape), np.uint8)
        labels = np.empty(count, np.int32)
        position = 0
        for path, records in self._batches(split):
            batch = slice(position, position + len(records))
            position += len(records)
            try:
                features = [_features(record) for record in records]
                encoded = [_bytes(feature, "image") for feature in features]
                images[batch] = png.decode(encoded, self.image_shape)
                labels[batch] = [_integer(feature, "label") for feature in features]
            except png.ShapeError as error:
                raise UserError(
                    f"{self.name} has {error}: all its images must have one shape"
                ) from error
            except (ValueError, OverflowError) as error:
                raise self._damaged(path, error) from error
            if labels[batch].min() < 0:
                raise UserError(f"split {split!r} of {self.name} has no labels")
            if labels[batch].max() >= len(self.class_names):
                raise self._damaged(path, "a label that is not a class")
        return images, labels

    def superclass_of(self) -> tuple[int, ...]:
        """Reads for each class the superclass of its first image.

        Returns:
          A superclass index per class; empty if there are no superclasses, or if
          a class has no image.

        Raises:
          UserError: a file is missing or damaged.
        """
        found: dict[int, int] = {}
        if not self.superclass_names:
            return ()
        for split in self.shards:
            for path, records in self._batches(split):
                try:
                    for feature in map(_features, records):
                        label = _integer(feature, "label")
                        superclass = _integer(feature, "coarse_label")
                        if not (
                            0 <= label < len(self.class_names)
                            and 0 <= superclass < len(self.superclass_names)
                        ):
                            raise ValueError("a label that is not a class")
                        found.setdefault(label, superclass)
                except ValueError as error:
                    raise self._damaged(path, error) from error
                if len(found) == len(self.class_names):
                    return tuple(found[label] for label in range(len(found)))
        return ()

    def _batches(self, split: str) -> Iterator[tuple[Path, list[bytes]]]:
        """Yields the records of a stored split, each batch with its file.

        ArrayRecord stores a hash of every chunk and checks it, so a record that
        comes out is the record that went in.
        """
        for path, length in zip(self.files[split], self.shards[split], strict=True):
            if not path.exists():
                raise self._damaged(path, "it is missing")
            try:
                reader = ArrayRecordReader(str(path))
                if reader.num_records() != length:
                    raise self._damaged(path, f"it does not hold {length} records")
                for start in range(0, length, _BATCH):
                    yield path, reader.read(start, min(start + _BATCH, length))
                reader.close()
            except (RuntimeError, IndexError, OSError) as error:
                raise self._damaged(path, error) from error

    def _damaged(self, path: Path, reason: object) -> UserError:
        text = str(reason).partition(";")[0]
        return UserError(
            f"{path} is damaged ({text}): delete {self.folder} and prepare "
            f"{self.name} again"
        )


def open_prepared(name: str, data_dir: Path) -> Prepared | None:
    """Finds a prepared data set.

    Args:
      name: ``name[/configuration][:version]``, as TFDS writes it.
      data_dir: holds prepared data sets.

    Returns:
      The data set, in its newest version; None if TFDS knows it and it is not
      prepared.

    Raises:
      UserError: the name is unknown, or the set is damaged or of another kind.
    """
    parsed = re.fullmatch(r"(\w+)(/[\w.-]+)?(:\d+\.\d+\.\d+)?", name)
    known = tfds.list_builders(with_community_datasets=False)
    if not parsed or not (parsed[1] in known or (data_dir / parsed[1]).is_dir()):
        hint = nearest(name, [*known, "synthetic"])
        raise UserError(f"unknown data set {name!r}{hint}")
    try:
        return _describe(
            read_only_builder.builder_from_files(name, data_dir=str(data_dir))
        )
    except tfds.core.DatasetNotFoundError:
        return None
    except UserError:
        raise
    # Damaged JSON makes TFDS and protobuf raise nearly anything.
    except Exception as error:
        raise UserError(
            f"the metadata in {data_dir / parsed[1]} is damaged "
            f"({type(error).__name__}): delete that folder and prepare {name} again"
        ) from error


def _describe(builder: Any) -> Prepared:
    name = builder.name
    if builder.builder_config is not None:
        name = f"{name}/{builder.builder_config.name}"
    features, kind = builder.info.features, tfds.features
    image, label = (dict(features).get(key) for key in ("image", "label"))
    if not (isinstance(image, kind.Image) and isinstance(label, kind.ClassLabel)):
        raise UserError(f"{name} is no classification set: it needs image and label")
    if image.np_dtype != np.uint8 or image.shape[-1] not in (1, 3, 4):
        raise UserError(
            f"{name} has images of {image.np_dtype}, shape {image.shape}: only 8-bit "
            "ones of 1, 3 or 4 channels can be read"
        )
    if not label.num_classes or label.num_classes < 2:
        raise UserError(f"{name} has {label.num_classes or 0} classes: it needs two")
    if builder.info.file_format.value != "array_record":
        raise UserError(
            f"{name} in {builder.data_dir} is stored as "
            f"{builder.info.file_format.value}: prepare it again with "
            "--file_format=array_record"
        )
    height, width, channels = image.shape
    splits = builder.info.splits.items()
    coarse = dict(features).get("coarse_label")
    prepared = Prepared(
        name=name,
        version=str(builder.version),
        folder=Path(builder.data_dir),
        image_shape=(height or 0, width or 0, channels),
        class_names=tuple(label.names),
        superclass_names=tuple(coarse.names) if coarse else (),
        shards={name: tuple(split.shard_lengths) for name, split in splits},
        files={name: tuple(map(Path, split.filepaths)) for name, split in splits},
    )
    if None not in image.shape:
        return prepared
    # TFDS does not know the size: all images must have that of the first.
    return dataclasses.replace(prepared, image_shape=_first_shape(prepared))


def _first_shape(prepared: Prepared) -> tuple[int, int, int]:
    split = next(iter(prepared.shards))
    path, records = next(prepared._batches(split))
    try:
        size = png.size(_bytes(_features(records[0]), "image"))
    except ValueError as error:
        raise prepared._damaged(path, error) from error
    return (*size, prepared.image_shape[-1])


def _features(record: bytes) -> Any:
    try:
        return tf_example_pb2.Example.FromString(record).features.feature
    except DecodeError as error:
        raise ValueError(str(error)) from error


def _bytes(features: Any, name: str) -> bytes:
    (value,) = features[name].bytes_list.value
    return value


def _integer(features: Any, name: str) -> int:
    (value,) = features[name].int64_list.value
    return value
