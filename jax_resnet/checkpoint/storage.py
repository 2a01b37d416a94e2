"""What orbax and its storage have to be told, and what they do not notice."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import jax
import tensorstore
from orbax.checkpoint import v1 as ocp

from jax_resnet.runtime.errors import UserError

# Paths that mean only themselves to orbax, to which /s3/x and its like are URLs.
_PLAIN = re.compile(r"(?!/(gs|s3|az|hf)/)[\w/. ,+=@-]+")
_OPEN_FOLDERS = Path("/proc/self/fd")  # of this process, on Linux


@contextlib.contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """Gives a folder a path in which nothing has a meaning to orbax.

    Orbax and its storage read signs such as ``[``, ``*`` or a backslash, wherever in a
    path they are, as patterns or separators, and then save something else in silence.
    They take every path for UTF-8, too. Linux has another path for every open folder.
    Raises UserError where there is none.
    """
    resolved = folder.resolve()  # the storage knows no ``..``
    is_utf8 = str(resolved).isascii() or sys.getfilesystemencoding() == "utf-8"
    if _PLAIN.fullmatch(str(resolved)) and is_utf8:
        yield resolved
        return
    if not _OPEN_FOLDERS.is_dir():
        raise UserError(
            f"a run cannot be in {str(folder)!r}: its path may have letters, digits, "
            "spaces, and the signs . , _ + = @ - alone"
        )
    descriptor = os.open(resolved, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _OPEN_FOLDERS / str(descriptor)
    finally:
        os.close(descriptor)


def own_context() -> ocp.Context:
    """Makes orbax act for this process alone, even where several train together.

    The first process saves the whole state, and each process restores it.
    """
    context = ocp.Context()
    if jax.distributed.is_initialized():
        index = jax.process_index()
        context.multiprocessing.primary_host = index
        context.multiprocessing.active_processes = {index}
        context.multiprocessing.barrier_sync_key_prefix = str(index)
    return context


def check_saved(step: Path, names: Mapping[str, Collection[str]]) -> None:
    """Checks that a step can be read, with arrays of these names in each tree.

    The stored bytes are read, and not decoded, which takes 30 ms for a ResNet-56 where
    :meth:`Checkpoint.verify` takes a second. Raises OSError or ValueError if something
    is missing or cut off.
    """
    for file in ("_CHECKPOINT_METADATA", *(f"{tree}/_METADATA" for tree in names)):
        json.loads((step / file).read_bytes())
    for tree, expected in names.items():
        base = {"driver": "file", "path": f"{step / tree}/"}
        stored = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
        reads = {key: stored.read(key) for key in stored.list().result()}
        found = {key.decode().partition("/")[0] for key in reads}
        if found != set(expected) or any(
            read.result().state != "value" for read in reads.values()
        ):
            raise OSError(f"it cannot be read back: arrays of {tree} are missing")
