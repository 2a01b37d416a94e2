"""Downloads a file and verifies it."""

import hashlib
import urllib.request
from pathlib import Path

from tqdm import tqdm

from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import new_file

_BLOCK = 1 << 20  # bytes read at a time
_SECONDS = 8.0  # without an answer or a byte, after which a download has failed


def verify(path: Path, sha256: str) -> None:
    """Checks a file; raises UserError if its SHA-256 (hexadecimal) is another one."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise UserError(f"{path} is damaged or incomplete: delete it and run again")


def download(url: str, path: Path, *, sha256: str, size: int) -> None:
    """Downloads a file, with a progress bar where standard error is a terminal.

    The file appears at ``path`` once it is complete and has the SHA-256 (hexadecimal).
    ``size`` is in bytes. Raises OSError or HTTPException if that fails.
    """
    digest = hashlib.sha256()
    bar = tqdm(desc=path.name, total=size, unit="B", unit_scale=True, disable=None)
    with (
        urllib.request.urlopen(url, timeout=_SECONDS) as response,
        new_file(path, shared=True) as file,
        bar,
    ):
        while block := response.read(_BLOCK):
            digest.update(block)
            file.write(block)
            bar.update(len(block))
        if digest.hexdigest() != sha256:
            raise OSError(f"{url} arrived incomplete or damaged")
