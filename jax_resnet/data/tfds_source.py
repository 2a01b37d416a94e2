"""Reads prepared TFDS data sets without TensorFlow."""

import io
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from jaxtyping import UInt8
from PIL import Image
from tensorflow_datasets.core import read_only_builder
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from jax_resnet.data import prepare
from jax_resnet.data.image_file import MODES
from jax_resnet.data.source import DatasetInfo, Source, Split
from jax_resnet.runtime.errors import UserError, nearest
from jax_resnet.runtime.paths import user_path
from jax_resnet.runtime.text import utf8_hint

UNKNOWN = -1  # in place of a label
# Image, label, and superclass or UNKNOWN.
Example = tuple[UInt8[np.ndarray, "h w c"], int, int]

# Mean and standard deviation of x/255; CIFAR-100's are those of the reference recipe.
_NORMALIZATION = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
_BATCH = 1000  # records read at a time
_DAMAGE = (OSError, RuntimeError, ValueError, IndexError)
_NOT_UNDERSTOOD = (OSError, ValueError, SyntaxError, DecodeError)


@dataclass(frozen=True)
class TfdsSource(Source):
    """A data set that TFDS prepared as ``array_record`` files."""

    files: Mapping[str, tuple[Path, ...]]  # the files of each stored split

    def decode(self, split: str) -> Split:
        """Decodes a stored split, as :meth:`Source.decode` says."""
        count = sum(self.shard_lengths[split])
        images = np.empty((count, *self.info.image_shape), np.uint8)
        labels = np.empty(count, np.int32)
        title = f"decoding {self.info.name} {split}"  # shown only on a terminal
        examples = tqdm(self.examples(split), title, count, leave=False, disable=None)
        for index, (image, label, _) in enumerate(examples):
            if image.shape != self.info.image_shape:
                raise UserError(
                    f"{self.info.name} has images of shape {image.shape} and "
                    f"{self.info.image_shape}: all its images must have one shape"
                )
            images[index], labels[index] = image, label
        return Split(images, labels)

    def examples(self, split: str) -> Iterator[Example]:
        """Yields the images of a stored split with label and superclass."""
        shards = zip(self.files[split], self.shard_lengths[split], strict=True)
        for path, length in shards:
            yield from map(self._decode_record, self._read_records(path, length))

    def _read_records(self, path: Path, length: int) -> Iterator[bytes]:
        """Yields the records of a file, whose hashes ArrayRecord stores and checks."""
        try:
            with path.open("rb"):  # whose error tells what the reader's does not
                reader = ArrayRecordReader(str(path))
            if reader.num_records() != length:
                raise ValueError(f"it does not hold {length} records")
            for start in range(0, length, _BATCH):
                yield from reader.read(start, min(start + _BATCH, length))
            reader.close()
        except PermissionError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        except _DAMAGE as error:
            reason = str(error).partition(";")[0]
            raise UserError(
                f"{path} is damaged ({reason}): delete {self.location} and prepare "
                f"{self.info.name} again"
            ) from error

    def _decode_record(self, record: bytes) -> Example:
        """Decodes a record. It is as it was stored, so it is of another kind if not."""
        info, channels = self.info, self.info.image_shape[-1]
        try:
            features = tf_example_pb2.Example.FromString(record).features.feature
            (encoded,) = features["image"].bytes_list.value
            (label,) = features["label"].int64_list.value
            superclass = UNKNOWN
            if info.superclass_names:
                (superclass,) = features["coarse_label"].int64_list.value
            with Image.open(io.BytesIO(encoded)) as image:
                pixels = np.asarray(image.convert(MODES[channels]))
        except _NOT_UNDERSTOOD as error:
            raise UserError(
                f"{info.name} in {self.location} cannot be used, because an image or "
                f"label is not understood ({error})"
            ) from error
        if label == UNKNOWN:
            raise UserError(f"{info.name} has images without labels")
        self._check_label(label, info.class_names)
        if superclass != UNKNOWN:
            self._check_label(superclass, info.superclass_names)
        return pixels.reshape(*pixels.shape[:2], channels), label, superclass

    def _check_label(self, label: int, names: tuple[str, ...]) -> None:
        if not 0 <= label < len(names):
            raise UserError(
                f"{self.info.name} in {self.location} has the label {label} and names "
                f"of {len(names)} classes: prepare it again"
            )


def folder(data_dir: str | None) -> Path:
    """Returns the folder of prepared data, see :func:`jax_resnet.data.describe`."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    try:
        path = user_path(chosen).absolute()
        # TFDS takes /s3 and its like for URLs, and reads no bytes that are not UTF-8.
        if os.fspath(tfds.core.Path(path)).encode() != os.fsencode(path):
            raise OSError(f"TFDS takes it for a URL{utf8_hint()}")
        (path / "downloads").exists()  # raises for a folder that cannot be read
        return path
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot look for data in {chosen!r} ({error}): set config.data.dir or "
            "TFDS_DATA_DIR to a folder of your own"
        ) from error


def open_or_prepare(name: str, data_dir: str | None) -> TfdsSource:
    """Opens a data set; prepares CIFAR-10 or CIFAR-100 first if it is missing."""
    place = folder(data_dir)
    source = open_prepared(name, place)
    if source is None and name in prepare.NAMES:
        prepare.prepare(name, place)
        source = open_prepared(name, place)
    if source is None:
        raise UserError(
            f"{name} is not prepared in {place}: where TensorFlow is installed, run "
            f"tfds build {name} --file_format=array_record --data_dir={place}"
        )
    return source


def open_prepared(name: str, data_dir: Path) -> TfdsSource | None:
    """Opens a prepared data set in its newest version.

    ``name`` is ``name[/configuration][:version]``, as TFDS writes it. Returns None if
    TFDS knows the data set and it is not prepared. Raises UserError if the name is
    unknown, or the data set is damaged or of another kind.
    """
    parsed = re.fullmatch(r"(\w+)(/[\w.-]+)?(:\d+\.\d+\.\d+)?", name)
    known = tfds.list_builders(with_community_datasets=False)
    if not parsed or not (parsed[1] in known or (data_dir / parsed[1]).is_dir()):
        hint = nearest(name, [*known, "synthetic"])
        raise UserError(f"unknown data set {name!r}{hint}")
    try:
        builder = read_only_builder.builder_from_files(name, data_dir=str(data_dir))
        return _open(builder)
    except tfds.core.DatasetNotFoundError:
        return None
    except UserError:
        raise
    # Damaged JSON makes TFDS and protobuf raise nearly anything.
    except Exception as error:
        place, reason = data_dir / parsed[1], type(error).__name__
        is_of_others = parsed[1] not in prepare.NAMES  # another program wrote it
        if is_of_others or isinstance(error, OSError | ImportError | MemoryError):
            detail = (str(error).strip().splitlines() or [""])[0][:200]
            raise UserError(
                f"the metadata in {place} cannot be read ({reason}: {detail}): prepare "
                f"{name} again with this version of tensorflow_datasets, or elsewhere"
            ) from error
        raise UserError(
            f"the metadata in {place} is damaged ({reason}): delete that folder and "
            f"prepare {name} again"
        ) from error


def _open(builder: Any) -> TfdsSource:
    name = builder.name
    if builder.builder_config is not None:
        name = f"{name}/{builder.builder_config.name}"
    features = dict(builder.info.features)
    _check(name, builder, features)
    height, width, channels = features["image"].shape
    coarse = features.get("coarse_label")
    if not isinstance(coarse, tfds.features.ClassLabel) or not coarse.num_classes:
        coarse = None  # a feature of another kind, which is no superclass
    mean, std = _NORMALIZATION.get(name, ((), ()))
    info = DatasetInfo(
        name=name,
        version=str(builder.version),
        image_shape=(height or 0, width or 0, channels),
        class_names=tuple(features["label"].names),
        superclass_names=tuple(coarse.names) if coarse else (),
        superclass_of=(),
        mean=mean,
        std=std,
    )
    splits = builder.info.splits.items()
    source = TfdsSource(
        info,
        shard_lengths={name: tuple(split.shard_lengths) for name, split in splits},
        location=Path(builder.data_dir),
        files={name: tuple(map(Path, split.filepaths)) for name, split in splits},
    )
    if not (height and width):  # unknown to TFDS: the first image decides
        image, _, _ = next(source.examples(next(iter(source.files))))
        info = replace(info, image_shape=image.shape)
    if superclass_of := _find_superclasses(source):
        info = replace(info, superclass_of=superclass_of)
    else:
        info = replace(info, superclass_names=())
    return replace(source, info=info)


def _check(name: str, builder: Any, features: Mapping[str, Any]) -> None:
    """Raises UserError if a data set is none of labelled 8-bit images."""
    image, label = features.get("image"), features.get("label")
    kinds = tfds.features
    if not (isinstance(image, kinds.Image) and isinstance(label, kinds.ClassLabel)):
        raise UserError(f"{name} is no classification set: it needs image and label")
    if (label.num_classes or 0) < 2:
        raise UserError(
            f"{name} has {label.num_classes} classes: at least 2 are needed"
        )
    if image.np_dtype != np.uint8 or image.shape[-1] not in MODES:
        raise UserError(
            f"{name} has images of {image.np_dtype}, shape {image.shape}: only 8-bit "
            "images of 1, 3 or 4 channels can be read"
        )
    file_format = builder.info.file_format.value
    if file_format != "array_record":
        raise UserError(
            f"{name} in {builder.data_dir} is stored as {file_format}: prepare it "
            "again with --file_format=array_record"
        )


def _find_superclasses(source: TfdsSource) -> tuple[int, ...]:
    """Returns each class's superclass; () if one has none, several, or no image."""
    if not source.info.superclass_names:
        return ()
    found: dict[int, int] = {}
    every_split = map(source.examples, source.files)
    for _, label, superclass in itertools.chain.from_iterable(every_split):
        if superclass == UNKNOWN:
            continue
        if found.setdefault(label, superclass) != superclass:
            return ()
        if len(found) == source.info.num_classes:
            return tuple(found[label] for label in sorted(found))
    return ()
