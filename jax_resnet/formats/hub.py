"""Uploads to the Hugging Face Hub."""

import re
import textwrap
from pathlib import Path
from typing import Literal

from jax_resnet.formats.output import require
from jax_resnet.runtime.errors import UserError

_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def check(name: str) -> None:
    """Checks the name of a repository, and that there is a token.

    Args:
        name: ``user/name``, or ``organisation/name``.

    Raises:
        UserError: if either is missing, or huggingface_hub is not installed.
    """
    require("huggingface_hub", extra="export")
    import huggingface_hub

    if not _NAME.fullmatch(name):
        raise UserError(f"--push must be user/name, not {name!r}")
    if not huggingface_hub.get_token():
        raise UserError(
            "--push needs a token of the Hugging Face Hub with write access: set "
            "HF_TOKEN, or run hf auth login"
        )


def push(folder: Path, name: str, kind: Literal["model", "space"] = "model") -> str:
    """Uploads a folder, and creates the repository if there is none.

    The token is that of ``$HF_TOKEN`` or ``hf auth login``.

    Args:
        folder: the exported folder.
        name: ``user/name``, or ``organisation/name``.
        kind: a model, or a Space that runs Gradio.

    Returns:
        The address of the repository.

    Raises:
        UserError: if the Hub refuses the upload or cannot be reached.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi()
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}
    try:
        address = api.create_repo(name, repo_type=kind, exist_ok=True, **sdk)
        api.upload_folder(repo_id=name, repo_type=kind, folder_path=folder)
    # The client raises its own errors, its HTTP library's and the system's.
    except Exception as error:
        code = getattr(getattr(error, "response", None), "status_code", None)
        if code in (401, 403):
            reason = f"the token may not write to {name} (HTTP {code})"
        else:
            detail = textwrap.shorten(str(error), 200)
            reason = f"the Hub at {api.endpoint} did not accept it ({detail})"
        raise UserError(
            f"the {kind} is in {str(folder)!r} but was not uploaded: {reason}; to try "
            f"again: hf upload {name} {folder} --repo-type {kind}"
        ) from error
    return str(address)
