"""Uploading a folder to the Hugging Face Hub, as a model or as a Space."""

import re
import textwrap
from pathlib import Path
from typing import Literal

from jax_resnet.formats.output import require
from jax_resnet.runtime.errors import UserError

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


def push(folder: Path, name: str, kind: Literal["model", "space"] = "model") -> str:
    """Uploads a folder, into a new repository if there is none of that name.

    The token is ``$HF_TOKEN``'s, or the one that ``hf auth login`` stored; the Hub is
    at ``$HF_ENDPOINT`` if that is set.

    Args:
        folder: to upload.
        name: ``user/name``, or ``organisation/name``.
        kind: of the repository; a Space runs Gradio.

    Returns:
        The address of the repository.

    Raises:
        UserError: if the Hub refuses it, or cannot be reached.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi()
    try:
        sdk = {"space_sdk": "gradio"} if kind == "space" else {}
        address = api.create_repo(name, repo_type=kind, exist_ok=True, **sdk)
        api.upload_folder(
            repo_id=name,
            repo_type=kind,
            folder_path=folder,
            commit_message=f"Upload the {kind}",
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
            f"the {kind} is in {str(folder)!r} but was not uploaded, as {reason}; once "
            f"that is mended: hf upload {name} {folder} --repo-type {kind}"
        ) from error
    return str(address)
