"""The inputs of the page, and the sentences that answer what does not fit.

Gradio's own components decode images before the app sees them, and answer a damaged one
with nothing but "Error". These hand over the files as they are.
"""

import contextlib
from abc import ABCMeta
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import uploads
from example_pictures import FOLDER
from gradio.utils import get_upload_folder

ARGUMENTS = (
    "The request does not fit. Its data is [image, fit]: the image is an uploaded file "
    'or {"url": "data:image/png;base64,..."}, and fit is "crop" or "pad".'
)


def error(sentence: str) -> gr.Error:
    """Returns an error whose sentence the visitor sees."""
    return gr.Error(sentence, title="No answer", print_exception=False)


@contextlib.contextmanager
def errors_shown() -> Iterator[None]:
    """Shows the sentence of an image that cannot be used."""
    try:
        yield
    except uploads.UnusableImageError as unusable:
        raise error(str(unusable)) from unusable


def answer_wrong_arguments(demo: gr.Blocks) -> None:
    """Answers arguments of another number or type with a sentence.

    Gradio would log a traceback with the arguments in it, and answer nothing.
    """
    preprocess = demo.preprocess_data

    async def preprocess_or_answer(*inputs: Any) -> list[Any]:
        try:
            return await preprocess(*inputs)
        except Exception as exception:
            if isinstance(exception, gr.Error) and not exception.print_exception:
                raise  # it is one of ``error``
            raise error(ARGUMENTS) from exception

    demo.preprocess_data = preprocess_or_answer


def _check_place(path: str | Path) -> None:
    """Raises gr.Error if a request names a file of the server that is no upload."""
    folders = Path(get_upload_folder()), FOLDER
    if not any(Path(path).resolve().is_relative_to(f.resolve()) for f in folders):
        raise error(ARGUMENTS)


def _file_or_bytes(image: Any) -> Path | bytes:
    if image.url and image.url.startswith("data:"):
        with errors_shown():
            return uploads.from_data_url(image.url)
    _check_place(image.path)
    return Path(image.path)


def _one(_: gr.Image, payload: Any) -> Path | bytes | None:
    return payload and _file_or_bytes(payload)


def _several(_: gr.Gallery, payload: Any) -> list[tuple[str, Path | bytes]]:
    items = payload.root if payload else []
    files = [getattr(item, "image", None) or item.video for item in items]
    return [(file.orig_name or "picture", _file_or_bytes(file)) for file in files]


async def _move_to_cache(self: Any, path: str | Path | None) -> str | None:
    if str(path).startswith(("http://", "https://")):  # it could be of any size
        raise error("Addresses are not fetched. Upload the image itself.")
    if path is not None:
        _check_place(path)
    moved: str | None = await gr.Image.async_move_resource_to_block_cache(self, path)
    return moved


def _component(base: type, name: str, preprocess: Any) -> type:
    # A class statement would run Gradio's metaclass, which writes a type stub beside
    # this file.
    members = {
        "__module__": __name__,
        "is_template": True,  # the browser draws it as its base
        "preprocess": preprocess,
        "async_move_resource_to_block_cache": _move_to_cache,
    }
    return ABCMeta.__new__(type(base), name, (base,), members)


Picture = _component(gr.Image, "Picture", _one)
Pictures = _component(gr.Gallery, "Pictures", _several)
