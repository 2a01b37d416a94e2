"""Downloads a file, verifies it, and fails within seconds without a network."""

import hashlib
import queue
import threading
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import new_file

_BLOCK = 1 << 20  # bytes read at a time
_STALLED = 30.0  # seconds without a byte after which a download has broken off


def verify(path: Path, sha256: str) -> None:
    """Checks a file; raises UserError if its SHA-256 (hexadecimal) is another one."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise UserError(
            f"{path} is damaged or incomplete (its SHA-256 is {found[:8]}..., not "
            f"{sha256[:8]}...): delete it and run again"
        )


def download(
    url: str,
    path: Path,
    *,
    sha256: str,
    size: int,
    remedy: str,
    connect_seconds: float = 6.0,
) -> None:
    """Downloads a file, with a progress bar where standard error is a terminal.

    Args:
      url: the address of the file.
      path: where to put it; nothing appears there before it is complete and verified.
      sha256: its SHA-256, in hexadecimal.
      size: bytes expected, for the progress bar.
      remedy: says what the user can do; every error ends with it.
      connect_seconds: how long the server may take to begin its answer.

    Raises:
      UserError: there is no network, or the download stalls or arrives damaged.
      OSError: ``path`` cannot be written.
    """
    digest = hashlib.sha256()
    with (
        new_file(path, shared=True) as file,
        _connect(url, connect_seconds, remedy) as response,
        tqdm(
            desc=path.name, total=size, unit="B", unit_scale=True, disable=None
        ) as progress,
    ):
        try:
            while block := response.read(_BLOCK):
                digest.update(block)
                file.write(block)
                progress.update(len(block))
        except (ConnectionError, TimeoutError, HTTPException) as error:
            raise UserError(f"{url} broke off ({error}): {remedy}") from error
        if digest.hexdigest() != sha256:
            raise UserError(
                f"{url} arrived incomplete or damaged, {file.tell():,} of {size:,} "
                f"bytes: {remedy}"
            )


def _connect(url: str, seconds: float, remedy: str) -> Any:
    """Returns the response to a request, or raises UserError within ``seconds``.

    A thread, because a socket's timeout covers neither the look-up of the name nor a
    server that sends its headers byte by byte.
    """
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def connect() -> None:
        try:
            # Unlike urlopen, a new opener follows a change of the proxy settings.
            opener = urllib.request.build_opener()
            answers.put(opener.open(url, timeout=_STALLED))
        except (OSError, HTTPException) as error:
            answers.put(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        answer = TimeoutError(f"no answer in {seconds:g} s")
    if isinstance(answer, Exception):
        raise UserError(f"{url} cannot be downloaded ({answer}): {remedy}")
    return answer
