"""Uploading a model's folder to the Hugging Face Hub."""

import re
import textwrap
from pathlib import Path

from jax_resnet.errors import UserError
from jax_resnet.formats.output import require

_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_NOT_ALLOWED = (401, 403)


def check(name: str) -> None:
    """Checks, before anything is done, that there is a name and a token.

    Args:
        name: ``user/name``, or ``organisation/name``.

    Raises:
        UserError: if there is not, or huggingface_hub is not installed.
    """
    require("huggingface_hub", extra="export")
    import huggingface_hub

    if not _NAME.fullmatch(name):
        raise UserError(f"--push must be user/name, not {name!r}")
    if not huggingface_hub.get_token():
        raise UserError(
            "--push needs a token of the Hugging Face Hub that may write: set "
            "HF_TOKEN, or run hf auth login"
        )


def push(folder: Path, name: str) -> str:
    """Uploads a folder, into a new repository if there is none of that name.

    The token is ``$HF_TOKEN``'s, or the one that ``hf auth login`` stored; the Hub is
    at ``$HF_ENDPOINT`` if that is set.

    Returns:
        The address of the model.

    Raises:
        UserError: if the Hub refuses it, or cannot be reached.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(name, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Upload the model"
        )
    # The client raises its own errors, its HTTP library's and the system's.
    except Exception as error:
        code = getattr(getattr(error, "response", None), "status_code", None)
        if code in _NOT_ALLOWED:
            reason = f"the token may not write to {name} (HTTP {code})"
        elif code:
            reason = f"the Hub at {api.endpoint} answered HTTP {code}"
        else:
            detail = textwrap.shorten(str(error), 200)
            reason = f"the Hub at {api.endpoint} cannot be reached: {detail}"
        raise UserError(
            f"the model is in {str(folder)!r} but was not uploaded, as {reason}; once "
            f"that is mended: hf upload {name} {folder}"
        ) from error
    return str(address)
