"""Finds the image files of a folder, their splits and their classes."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jax_resnet.data.image_file import SUFFIXES
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.text import utf8_hint

ALL = ""  # in place of a split: the images that are not stored in splits
# A line break would make two lines of one, and a report is UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Listing:
    """The image files below a folder."""

    root: Path
    class_names: tuple[str, ...]  # sorted
    # the paths from the folder and the labels of each split, or of ALL
    files: dict[str, list[tuple[str, int]]]
    left_out: list[str]  # paths of files that are no images, or in no class
    fingerprint: str  # changes with paths, sizes and times


def list_images(root: Path) -> Listing:
    """Lists ``root/SPLIT/CLASS/*`` if there are such files, else ``root/CLASS/*``.

    The former is taken if ``root/train`` or ``root/test`` is a folder of folders. Image
    files lie at any depth below CLASS. What is hidden, by a dot, is ignored. The files
    of a split are in the order of a hash of their paths, so that any part of them is a
    random one. Raises UserError if something cannot be read or a class has a name that
    is not printable.
    """
    top = _folders(root)
    folders = {name: _folders(root / name) for name in top}
    splits = {name: classes for name, classes in folders.items() if classes}
    if not (splits.get("train") or splits.get("test")):
        splits = {ALL: top}
    names = sorted({name for classes in splits.values() for name in classes})
    for name in names:
        if _UNPRINTABLE.search(name):
            raise UserError(
                f"the class folder {name!r} in {str(root)!r} has a name that is not "
                f"printable{utf8_hint()}: rename it"
            )
    label_of = {name: label for label, name in enumerate(names)}
    files: dict[str, list[tuple[str, int]]] = {}
    left_out, states = [], []
    for split, classes in splits.items():
        found = []
        left_out += _stray_files(root, split)
        for name in classes:
            folder = root / split / name
            for path, state in _walk(str(folder), str(folder.relative_to(root))):
                if state is None:
                    left_out.append(path)
                else:
                    found.append((path, label_of[name]))
                    states.append(f"{path!r} {state}")
        files[split] = sorted(found, key=lambda file: _hash(file[0]))
    fingerprint = hashlib.sha256("\n".join(sorted(states)).encode()).hexdigest()
    return Listing(root, tuple(names), files, sorted(left_out), fingerprint)


def _hash(path: str) -> bytes:
    return hashlib.blake2b(os.fsencode(path), digest_size=8).digest()


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [e.name for e in entries if e.is_dir() and e.name[0] != "."]
    except OSError as error:
        raise _unreadable(error) from error


def _stray_files(root: Path, split: str) -> list[str]:
    """Returns the files that lie beside the class folders."""
    with os.scandir(root / split) as entries:
        names = [e.name for e in entries if not e.is_dir() and e.name[0] != "."]
    return [str(Path(split, name)) for name in names]


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, str | None]]:
    """Yields the files below a folder, with size and time where they may be images.

    Their paths begin with ``prefix``. Links to files are followed, links to folders are
    not, because they may form a circle.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name, path = entry.name, f"{prefix}/{entry.name}"
                if name[0] == ".":
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(entry.path, path)
                    continue
                found = entry.stat()
                suffix = f".{name.rpartition('.')[2].lower()}"
                may_be_image = suffix in SUFFIXES or "." not in name
                is_image = may_be_image and stat.S_ISREG(found.st_mode)
                yield path, f"{found.st_size} {found.st_mtime_ns}" if is_image else None
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> UserError:
    return UserError(
        f"cannot read {str(error.filename)!r} ({error.strerror}): data.name=folder "
        "needs data.dir, a folder of images in one folder for each class"
    )
