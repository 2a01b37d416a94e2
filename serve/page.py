"""The page and the API of the demo, in Gradio."""

import contextlib
from abc import ABCMeta
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import card
import gradio as gr
import uploads
from classifier import HERE, Classifier
from gradio.utils import get_upload_folder

_WAITING = '<p class="waiting">Send a picture, or click on an example.</p>'
_ARGUMENTS = (
    "The request does not fit. Its data is [image, fit]: the image is an uploaded file "
    'or {"url": "data:image/png;base64,..."}, and fit is "crop" or "pad".'
)
_SET_OPACITY = "v => document.documentElement.style.setProperty('--map-opacity', v)"


def build(classifier: Classifier, *, max_queue: int, concurrency: int) -> gr.Blocks:
    """Builds the page, and the API endpoint ``/predict``.

    At most ``max_queue`` requests wait; further ones get HTTP 503.
    """
    with gr.Blocks(
        title=classifier.title, analytics_enabled=False, delete_cache=(600, 3600)
    ) as demo:
        _markdown(card.headline(classifier))
        with gr.Tab("Classify"):
            _classify_tab(classifier, concurrency)
        if evaluation := classifier.evaluation():
            with gr.Tab("Where it fails"):
                _evaluation_tab(*evaluation)
        with gr.Tab("The model"):
            _markdown(card.details(classifier))
    _answer_wrong_arguments(demo)
    # Every API request is a session of 40 KB, and Gradio would keep the last 10,000.
    demo.state_session_capacity = 500
    return demo.queue(max_size=max_queue, api_open=False)


def _classify_tab(classifier: Classifier, concurrency: int) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            image = Upload(
                label="Picture",
                sources=["upload", "webcam", "clipboard"],
                height=320,
                buttons=[],
            )
        with gr.Column(scale=3, min_width=280):
            result = gr.HTML(_WAITING)
            opacity = gr.Slider(0, 1, 0.5, label="Activation map")
            fit = gr.Radio(
                choices=[("Crop the middle", "crop"), ("Pad to a square", "pad")],
                value="crop",
                label="If it is not square",
            )
    examples = sorted(map(str, (HERE / "examples").glob("*.png")))
    gr.Examples(examples, image, cache_examples=False)

    def predict(image: Path | bytes | None, fit: uploads.Fit) -> dict[str, Any]:
        if image is None:
            raise _error("There is no image. Upload one.")
        if fit is None:
            raise _error(_ARGUMENTS)
        with _errors_shown():
            return classifier(image, fit).as_dict()

    def show(image: Path | bytes | None, fit: uploads.Fit) -> str:
        if image is None:
            return _WAITING
        with _errors_shown():
            return classifier(image, fit).as_html()

    limits = {"concurrency_limit": concurrency, "concurrency_id": "model"}
    gr.on(
        [image.change, fit.change],
        show,
        [image, fit],
        result,
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="always_last",
        **limits,
        # An error clears the result of the picture before.
    ).failure(lambda: _WAITING, None, result, api_visibility="private")
    opacity.input(None, opacity, None, js=_SET_OPACITY, api_visibility="private")
    # The page has no such button: it carries the API endpoint.
    gr.Button(visible=False).click(
        predict, [image, fit], gr.JSON(visible=False), api_name="predict", **limits
    )


def _evaluation_tab(report: Mapping[str, Any], figures: Path) -> None:
    _markdown(card.evaluation(report))
    mistakes = figures / "mistakes.png"
    if mistakes.is_file():
        gr.Markdown("### The most confident mistakes")
        gr.Image(mistakes, show_label=False, interactive=False, buttons=["fullscreen"])
    gr.Markdown("### Accuracy of each class")
    gr.Dataframe(
        card.class_accuracies(report),
        headers=["class", "images", "accuracy"],
        datatype=["str", "number", "str"],
        interactive=False,
        max_height=480,
    )


def _markdown(text: str) -> None:
    """Shows Markdown, in which ``$`` has no meaning."""
    gr.Markdown(text, latex_delimiters=[])


def _preprocess(_: gr.Image, payload: Any) -> Path | bytes | None:
    if payload is None:
        return None
    if payload.url and payload.url.startswith("data:"):
        with _errors_shown():
            return uploads.from_data_url(payload.url)
    _check_place(payload.path)
    return Path(payload.path)


def _check_place(path: str | Path) -> None:
    """Raises gr.Error if a request names a file of the server that is no upload."""
    folders = Path(get_upload_folder()), HERE / "examples"
    if not any(Path(path).resolve().is_relative_to(f.resolve()) for f in folders):
        raise _error(_ARGUMENTS)


async def _move_to_cache(self: gr.Image, path: str | Path | None) -> str | None:
    if str(path).startswith(("http://", "https://")):  # it could be of any size
        raise _error("Addresses are not fetched. Upload the image itself.")
    if path is not None:
        _check_place(path)
    moved: str | None = await gr.Image.async_move_resource_to_block_cache(self, path)
    return moved


# An image component that hands over the file undecoded: Gradio's own answers a damaged
# one with nothing but "Error". A class statement would run Gradio's metaclass, which
# writes a type stub beside this file.
Upload = ABCMeta.__new__(
    type(gr.Image),
    "Upload",
    (gr.Image,),
    {
        "__module__": __name__,
        "is_template": True,  # the browser draws it as a gr.Image
        "preprocess": _preprocess,
        "async_move_resource_to_block_cache": _move_to_cache,
    },
)


@contextlib.contextmanager
def _errors_shown() -> Iterator[None]:
    try:
        yield
    except uploads.UnusableImageError as error:
        raise _error(str(error)) from error


def _answer_wrong_arguments(demo: gr.Blocks) -> None:
    """Answers arguments of another number or type with a sentence.

    Gradio would log a traceback with the arguments in it, and answer nothing.
    """
    preprocess = demo.preprocess_data

    async def preprocess_or_answer(*inputs: Any) -> list[Any]:
        try:
            return await preprocess(*inputs)
        except Exception as error:
            if isinstance(error, gr.Error) and not error.print_exception:
                raise  # it is one of _error
            raise _error(_ARGUMENTS) from error

    demo.preprocess_data = preprocess_or_answer


def _error(sentence: str) -> gr.Error:
    return gr.Error(sentence, title="No answer", print_exception=False)
