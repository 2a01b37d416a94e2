"""CIFAR-10 and CIFAR-100, prepared for TFDS without TensorFlow.

TFDS's own preparation needs TensorFlow to unpack the archive and to encode PNG
images. This builder does both without, and writes what TFDS would write, record for
record, so that TFDS and this package read it alike.
"""

import contextlib
import dataclasses
import io
import logging
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jax_resnet.data.download import download, verify
from jax_resnet.runtime.errors import UserError

_HEIGHT, _WIDTH, _CHANNELS = 32, 32, 3
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Archive:
    """An official archive, and what is in it.

    Attributes:
      name: of the data set in TFDS.
      version: of the data set in TFDS.
      url: where the archive is.
      sha256: of the archive, in hexadecimal.
      size: of the archive, in bytes.
      split_files: for each split the files of its records. A record is one byte for
        each kind of label, then 32 rows of red, as many of green and of blue.
      label_files: for each kind of label, in the order of the bytes, the file with
        the names of its classes, one a line.
    """

    name: str
    version: str
    url: str
    sha256: str
    size: int
    split_files: Mapping[str, tuple[str, ...]]
    label_files: Mapping[str, str]

    @property
    def filename(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]


# Addresses, sizes and checksums are those that TFDS uses.
ARCHIVES = {
    "cifar10": Archive(
        name="cifar10",
        version="3.0.2",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        size=170_052_171,
        split_files={
            "train": tuple(
                f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)
            ),
            "test": ("cifar-10-batches-bin/test_batch.bin",),
        },
        label_files={"label": "cifar-10-batches-bin/batches.meta.txt"},
    ),
    "cifar100": Archive(
        name="cifar100",
        version="3.0.2",
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        size=168_513_733,
        split_files={
            "train": ("cifar-100-binary/train.bin",),
            "test": ("cifar-100-binary/test.bin",),
        },
        label_files={
            "coarse_label": "cifar-100-binary/coarse_label_names.txt",
            "label": "cifar-100-binary/fine_label_names.txt",
        },
    ),
}


def prepare(archive: Archive, data_dir: Path, *, connect_seconds: float = 6.0) -> None:
    """Writes a data set where TFDS looks for it.

    The archive is taken from ``data_dir/downloads/manual``, where it may have been
    placed by hand; if it is not there, it is downloaded to there.

    Args:
      archive: of the data set.
      data_dir: TFDS's folder of data sets.
      connect_seconds: how long the server may take to begin its answer.

    Raises:
      UserError: no network, a damaged archive, or a folder that cannot be written.
    """
    target = data_dir / archive.name / archive.version
    if target.exists():
        raise UserError(f"{target} is incomplete: delete it and run again")
    path = data_dir / "downloads" / "manual" / archive.filename
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            verify(path, archive.sha256)
        else:
            _log.info("downloading %s to %s", archive.url, path.parent)
            download(
                archive.url,
                path,
                sha256=archive.sha256,
                size=archive.size,
                remedy=f"try again, or place that file in {path.parent}, or set "
                "config.data.dir or TFDS_DATA_DIR to where the data set is prepared",
                connect_seconds=connect_seconds,
            )
        _log.info("preparing %s in %s", archive.name, data_dir)
        _write(archive, path, data_dir)
    except OSError as error:
        raise UserError(
            f"{archive.name} cannot be prepared in {data_dir} "
            f"({error.strerror or error}): set config.data.dir or TFDS_DATA_DIR to a "
            "folder with room that you can write to"
        ) from error


def _write(archive: Archive, path: Path, data_dir: Path) -> None:
    tfds.display_progress_bar(sys.stderr.isatty())
    builder = _builder_class(archive, path)(
        data_dir=str(data_dir), file_format="array_record"
    )
    try:
        # TFDS announces itself on standard output, which belongs to the caller.
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare(
                download_dir=str(data_dir / "downloads"),
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
    except OSError:
        if not builder.is_prepared():  # else another process was faster
            raise


def _builder_class(archive: Archive, path: Path) -> type:
    """Makes the TFDS builder of an archive that lies at ``path``."""
    contents = _read(archive, path)
    names = {
        label: [name for name in contents[file].decode().split("\n") if name]
        for label, file in archive.label_files.items()
    }

    class Cifar(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        name = archive.name
        VERSION = tfds.core.Version(archive.version)

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{archive.name}, from {archive.filename}",
                homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
                supervised_keys=("image", "label"),
                features=tfds.features.FeaturesDict(
                    {
                        "id": tfds.features.Text(),
                        "image": tfds.features.Image(
                            shape=(_HEIGHT, _WIDTH, _CHANNELS)
                        ),
                        **{
                            label: tfds.features.ClassLabel(names=classes)
                            for label, classes in names.items()
                        },
                    }
                ),
            )

        def _split_generators(self, dl_manager: object) -> dict[str, Any]:
            return {
                split: self._generate_examples(
                    split, b"".join(map(contents.__getitem__, files))
                )
                for split, files in archive.split_files.items()
            }

        # The keys decide the order in which TFDS stores the records: these are its
        # own, so that ``train[:1000]`` means the same images.
        def _generate_examples(
            self, split: str, data: bytes
        ) -> Iterator[tuple[int, dict[str, Any]]]:
            size = len(names) + _CHANNELS * _HEIGHT * _WIDTH
            records = np.frombuffer(data, np.uint8).reshape(-1, size)
            labels, pixels = np.split(records, [len(names)], axis=1)
            planes = pixels.reshape(-1, _CHANNELS, _HEIGHT, _WIDTH)
            for index, image in enumerate(planes.transpose(0, 2, 3, 1)):
                yield (
                    index,
                    {
                        "id": f"{split}_{index:05d}",
                        "image": _png(image),
                        **dict(zip(names, map(int, labels[index]), strict=True)),
                    },
                )

    return Cifar


def _read(archive: Archive, path: Path) -> dict[str, bytes]:
    wanted = {*archive.label_files.values()}.union(*archive.split_files.values())
    with tarfile.open(path) as tar:
        found = {m.name: tar.extractfile(m) for m in tar if m.name in wanted}
        return {name: file.read() for name, file in found.items() if file}


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="png")
    return buffer.getvalue()
