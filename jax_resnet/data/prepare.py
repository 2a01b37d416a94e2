"""Prepares CIFAR-10 and CIFAR-100 for TFDS without TensorFlow.

TFDS's own builders need TensorFlow to unpack the archive and to read its files. The
builder here replaces both steps and keeps the rest, so that it writes the records
that TFDS would write, in the same order.
"""

import contextlib
import logging
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jax_resnet.data.download import download, verify
from jax_resnet.runtime.errors import UserError

NAMES = ("cifar10", "cifar100")

_SHAPE = (3, 32, 32)  # of an image in the archive: channels, height, width
_log = logging.getLogger(__name__)


def prepare(name: str, data_dir: Path) -> None:
    """Prepares one of :data:`NAMES` in TFDS's folder.

    The archive is downloaded to ``data_dir/downloads/manual`` if it is not there.
    Raises UserError if it cannot be downloaded, is damaged, or the folder cannot be
    written.
    """
    stock = tfds.builder_cls(name)
    target = data_dir / name / str(stock.VERSION)
    if target.exists():
        raise UserError(f"{target} is incomplete: move it away and run again")
    ((url, archive),) = stock.url_infos.items()
    path = data_dir / "downloads" / "manual" / url.rpartition("/")[2]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            verify(path, archive.checksum)
        else:
            _log.info("downloading %s to %s", url, path.parent)
            download(url, path, sha256=archive.checksum, size=archive.size)
        _log.info("preparing %s in %s", name, data_dir)
        write_records(name, path, data_dir)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{name} cannot be prepared in {data_dir} ({reason}): try again, or place "
            f"{url} in {path.parent}, or set config.data.dir or TFDS_DATA_DIR to a "
            "folder that holds the data set or has room for it"
        ) from error


def write_records(name: str, archive: Path, data_dir: Path) -> None:
    """Writes the records of a data set from its archive, or one laid out like it.

    Raises OSError if the folder cannot be written.
    """
    tfds.display_progress_bar(sys.stderr.isatty())
    downloads = data_dir / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads) as folder:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        builder = _builder_class(name, folder)(
            data_dir=str(data_dir), file_format="array_record"
        )
        try:
            # TFDS prints to standard output, which belongs to the caller.
            with contextlib.redirect_stdout(sys.stderr):
                config = tfds.download.DownloadConfig(try_download_gcs=False)
                builder.download_and_prepare(
                    download_dir=str(downloads), download_config=config
                )
        except OSError:
            if not builder.is_prepared():  # else another process was faster
                raise


def _builder_class(name: str, folder: str) -> type:
    """Returns TFDS's builder for the archive that is unpacked in a folder."""
    stock: Any = tfds.builder_cls(name)

    class Cifar(stock, skip_registration=True):  # type: ignore[call-arg]
        name = stock.name

        def _split_generators(self, dl_manager: object) -> dict[str, Any]:
            unpacked = SimpleNamespace(download_and_extract=lambda url: folder)
            return super()._split_generators(unpacked)

        # The keys decide the order of the stored records: they are TFDS's own, so
        # that ``train[:1000]`` means the same images.
        def _generate_examples(
            self, split_prefix: str, filepaths: Iterable[str]
        ) -> Iterator[tuple[int, dict[str, Any]]]:
            features = self.info.features
            kinds = [kind for kind in ("coarse_label", "label") if kind in features]
            data = b"".join(Path(path).read_bytes() for path in filepaths)
            row_length = len(kinds) + np.prod(_SHAPE)
            rows = np.frombuffer(data, np.uint8).reshape(-1, row_length)
            for index, row in enumerate(rows):
                labels, pixels = np.split(row, [len(kinds)])
                image = pixels.reshape(_SHAPE).transpose(1, 2, 0)
                yield (
                    index,
                    {
                        "id": f"{split_prefix}{index:05d}",
                        "image": Image.fromarray(image),
                        **dict(zip(kinds, labels.tolist(), strict=True)),
                    },
                )

    return Cifar
