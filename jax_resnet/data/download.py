"""One verified download that says within seconds why it cannot be had."""

import hashlib
import threading
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from tqdm import tqdm

from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import new_file

_BLOCK = 1 << 20  # bytes read at a time
_STALLED = 30.0  # seconds without a byte after which a download has broken off


def verify(path: Path, sha256: str) -> None:
    """Checks a file; UserError if its SHA-256 (hexadecimal) is another one."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise UserError(
            f"{path} is damaged or incomplete (its SHA-256 is {found[:8]}..., not "
            f"{sha256[:8]}...): delete it and run again"
        )


def download(
    url: str, path: Path, *, sha256: str, size: int, remedy: str, connect_seconds: float
) -> None:
    """Downloads a file, with a progress bar where standard error is a terminal.

    Args:
      url: of the file.
      path: where to put it; nothing appears there before it is complete and verified.
      sha256: what its SHA-256 must be, in hexadecimal.
      size: bytes expected, for the progress bar.
      remedy: ends every error: what the user can do.
      connect_seconds: how long the server may take to begin its answer.

    Raises:
      UserError: no network, no answer in time, a stalled or damaged download.
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
        while block := _read(response, url, remedy):
            digest.update(block)
            file.write(block)
            progress.update(len(block))
        if digest.hexdigest() != sha256:
            raise UserError(
                f"{url} came incomplete or damaged, {file.tell():,} of {size:,} "
                f"bytes: {remedy}"
            )


def _connect(url: str, seconds: float, remedy: str) -> HTTPResponse:
    """Opens a URL, or fails within ``seconds``.

    A socket's timeout covers neither the look-up of the name nor a server that
    answers drop by drop, hence the thread.
    """
    answers: list[HTTPResponse] = []
    reasons = [f"no answer in {seconds:g} s"]

    def connect() -> None:
        try:
            # A new opener, because urlopen keeps the proxies of its first call.
            opener = urllib.request.build_opener()
            answers.append(opener.open(url, timeout=_STALLED))
        except urllib.error.HTTPError as error:
            reasons.append(str(error))
        except urllib.error.URLError as error:
            reasons.append(str(error.reason))
        except (OSError, HTTPException) as error:
            reasons.append(str(error) or type(error).__name__)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answers:
        raise UserError(f"{url} cannot be downloaded ({reasons[-1]}): {remedy}")
    return answers[0]


def _read(response: HTTPResponse, url: str, remedy: str) -> bytes:
    try:
        return response.read(_BLOCK)
    except (OSError, HTTPException) as error:
        raise UserError(f"{url} broke off ({error}): {remedy}") from error
