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


def answer_wrong_arguments(demo: gr.Blocks, max_pictures: int) -> None:
    """Answers arguments of another number or type, or other files, with a sentence.

    Gradio would log a traceback with the arguments in it, and answer nothing.
    """
    preprocess = demo.preprocess_data

    async def preprocess_or_answer(
        function: Any, arguments: list[Any], *rest: Any
    ) -> list[Any]:
        try:
            check_files(arguments, max_pictures)
            return await preprocess(function, arguments, *rest)
        except Exception as exception:
            if isinstance(exception, gr.Error) and not exception.print_exception:
                raise  # it is one of ``error``
            raise error(ARGUMENTS) from exception

    demo.preprocess_data = preprocess_or_answer


def check_files(arguments: list[Any], limit: int) -> None:
    """Raises gr.Error if a request names too many files, or one that is no upload.

    Gradio would fetch addresses and copy the server's files, for a component of any
    kind and wherever they stand in the arguments.
    """
    paths: list[str | None] = []
    rest, longest = list(arguments), 0
    while rest:
        each = rest.pop()
        if isinstance(each, dict):
            if "path" in each or "url" in each:
                paths.append(each.get("path"))
            rest += each.values()
        elif isinstance(each, list):
            longest = max(longest, len(each))
            rest += each
    if (count := max(len(paths), longest)) > limit:
        raise error(f"These are {count} pictures. Send {limit} at most.")
    folder = Path(get_upload_folder()).resolve()
    for path in filter(None, paths):
        if path.startswith(("http://", "https://")):  # it could be of any size
            raise error("Addresses are not fetched. Upload the image itself.")
        if not Path(path).resolve().is_relative_to(folder):
            raise error(ARGUMENTS)


def _file_or_bytes(image: Any) -> Path | bytes:
    if image.url and image.url.startswith("data:"):
        with errors_shown():
            return uploads.from_data_url(image.url)
    return Path(image.path)


def _one(_: gr.Image, payload: Any) -> Path | bytes | None:
    return payload and _file_or_bytes(payload)


def _several(_: gr.Gallery, payload: Any) -> list[tuple[str, Path | bytes]]:
    items = payload.root if payload else []
    files = [getattr(item, "image", None) or item.video for item in items]
    return [(file.orig_name or "picture", _file_or_bytes(file)) for file in files]


def _fit(choice: gr.Radio, payload: Any) -> Any:
    if payload is None:
        raise error(ARGUMENTS)
    return gr.Radio.preprocess(choice, payload)


def _component(base: type, name: str, preprocess: Any) -> type:
    # A class statement would run Gradio's metaclass, which writes a type stub beside
    # this file.
    members = {
        "__module__": __name__,
        "is_template": True,  # the browser draws it as its base
        "preprocess": preprocess,
    }
    return ABCMeta.__new__(type(base), name, (base,), members)


Picture = _component(gr.Image, "Picture", _one)
Pictures = _component(gr.Gallery, "Pictures", _several)
FitChoice = _component(gr.Radio, "FitChoice", _fit)
