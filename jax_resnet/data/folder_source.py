"""Reads a folder of image files: one folder for each class."""

import logging
import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jax_resnet.data import splits
from jax_resnet.data.checks import check_classes
from jax_resnet.data.folder_listing import ALL, Listing, list_images
from jax_resnet.data.image_file import UnreadableImageError, read_image
from jax_resnet.data.source import DatasetInfo, Source, Split
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.memory import physical_memory_bytes

NAME = "folder"
_CHUNK = 32  # files that a thread reads at a time
_NAMED = 5  # unreadable files that an error names
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderSource(Source):
    """A folder of image files, read as RGB."""

    listing: Listing
    # train and test, once a folder without them is read and until they are asked for
    _waiting: dict[str, Split] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Identifies the state of the files."""
        return self.listing.fingerprint

    def decode(self, split: str) -> Split:
        """Decodes a split, as :meth:`Source.decode` says."""
        files = self.listing.files
        if split in files:
            return self._read(files[split], split)
        if split not in self._waiting:
            everything = self._read(files[ALL], "all images")
            self._waiting.update(splits.split_off_test(everything))
        return self._waiting.pop(split)

    def _read(self, files: Sequence[tuple[str, int]], title: str) -> Split:
        shape = self.info.image_shape
        _check_memory(len(files), shape)
        images = np.empty((len(files), *shape), np.uint8)

        def read(start: int) -> list[str]:
            """Reads some files; returns why some of them cannot be read."""
            errors = []
            for index in range(start, min(start + _CHUNK, len(files))):
                try:
                    path = self.listing.root / files[index][0]
                    images[index] = read_image(path, shape)
                except UnreadableImageError as error:
                    errors.append(str(error))
            return errors

        unreadable: list[str] = []
        # Pillow decodes without the GIL.
        pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        title = f"reading {self.info.name} {title}"
        try:
            with tqdm(desc=title, total=len(files), leave=False, disable=None) as bar:
                for errors in pool.map(read, range(0, len(files), _CHUNK)):
                    unreadable += errors
                    bar.update(min(_CHUNK, len(files) - bar.n))
        finally:
            pool.shutdown(cancel_futures=True)
        if unreadable:
            raise _unreadable(unreadable, len(files))
        names, labels = zip(*files, strict=True)
        return Split(images, np.array(labels, np.int32), np.array(names))


def open_folder(root: Path, resolution: int) -> FolderSource:
    """Opens a folder of images, which become ``resolution`` pixels wide and high.

    It holds ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*``, of which a fifth
    become test images, see :func:`~jax_resnet.data.splits.split_off_test`. Raises
    UserError if it has no images, or a class without training images.
    """
    root = root.absolute()
    listing = list_images(root)
    _check(listing)
    lengths = {split: (len(files),) for split, files in listing.files.items()}
    if ALL in lengths:
        (total,) = lengths.pop(ALL)
        n_test = splits.test_size(total)
        lengths = {"train": (total - n_test,), "test": (n_test,)}
    slug = re.sub(r"[^\w.-]+", "-", root.name)[:40]
    info = DatasetInfo(
        name=f"{NAME}/{slug}",
        version=f"{resolution}x{resolution}",
        image_shape=(resolution, resolution, 3),
        class_names=listing.class_names,
        superclass_names=(),
        superclass_of=(),
        mean=(),
        std=(),
    )
    return FolderSource(info, lengths, root, listing)


def _check(listing: Listing) -> None:
    root = listing.root
    if listing.left_out:
        _log.warning(
            "%s: %d files are left out, as their names are not those of images or they "
            "are in no class: first %r",
            *(root, len(listing.left_out), listing.left_out[0]),
        )
    labels = {
        split or "train": np.array([label for _, label in files], np.int32)
        for split, files in listing.files.items()
    }
    least = 2 if ALL in listing.files else 1
    check_classes(root, listing.class_names, labels, least=least)
    if ALL in listing.files:
        _log.info(
            "%s has no folders train and test: %.0f %% of its images are for testing",
            *(root, 100 * splits.TEST_SHARE),
        )


def _check_memory(count: int, shape: tuple[int, int, int]) -> None:
    needed = count * math.prod(shape)
    physical = physical_memory_bytes()
    if needed > physical:
        raise UserError(
            f"{count:,} images of {shape[0]}x{shape[1]} take {needed / 2**30:.0f} GiB "
            f"of memory, and there are {physical / 2**30:.0f}: lower data.resolution"
        )


def _unreadable(errors: Sequence[str], count: int) -> UserError:
    named = "; ".join(errors[:_NAMED])
    more = len(errors) - _NAMED
    return UserError(
        f"{named}{f'; and {more} more' if more > 0 else ''}: repair {len(errors):,} of "
        f"{count:,} files or move them out of the folder, and run again"
    )
