"""The page and the API of the demo."""

import contextlib
from abc import ABCMeta
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import card
import gradio as gr
import uploads
from served import HERE, Served, report_of

_SESSIONS = 500
_WAITING = '<p class="waiting">Send a picture, or click on an example.</p>'
_SHOW_MAP = "v => { document.documentElement.style.setProperty('--map-opacity', v) }"


def _preprocess(_: gr.Image, payload: Any) -> Path | bytes | None:
    if payload is None:
        return None
    if payload.url and payload.url.startswith("data:"):
        with _failures_shown():
            return uploads.from_data_url(payload.url)
    return Path(payload.path)


async def _move_to_cache(self: gr.Image, path: str | Path | None) -> str | None:
    if str(path).startswith(("http://", "https://")):  # it could be of any size
        raise _refused("Addresses are not fetched. Upload the image itself.")
    moved: str | None = await gr.Image.async_move_resource_to_block_cache(self, path)
    return moved


# An image component that leaves the decoding to us, who answer for what is no image
# with a sentence. Gradio's own metaclass would write type stubs beside this file.
Upload = ABCMeta.__new__(
    type(gr.Image),
    "Upload",
    (gr.Image,),
    {
        "__module__": __name__,
        "is_template": True,  # the page draws it as its parent
        "preprocess": _preprocess,
        "async_move_resource_to_block_cache": _move_to_cache,
    },
)


def build(served: Served, *, max_queue: int, concurrency: int) -> gr.Blocks:
    """The whole app.

    Args:
        served: the model.
        max_queue: requests that wait; further ones get HTTP 503.
        concurrency: requests in work at a time.
    """

    def predict(image: Path | bytes | None, fit: uploads.Fit) -> dict[str, Any]:
        if image is None:
            raise _refused("There is no image. Upload one.")
        with _failures_shown():
            return served(image, fit).as_dict()

    def show(image: Path | bytes | None, fit: uploads.Fit) -> str:
        if image is None:
            return _WAITING
        with _failures_shown():
            return served(image, fit).as_html()

    limits: dict[str, Any] = {
        "concurrency_limit": concurrency,
        "concurrency_id": "model",
    }
    with gr.Blocks(
        title=served.title, analytics_enabled=False, delete_cache=(600, 3600)
    ) as demo:
        gr.Markdown(card.headline(served))
        with gr.Tab("Classify"):
            with gr.Row():
                with gr.Column(scale=2, min_width=280):
                    image = Upload(
                        label="Picture",
                        sources=["upload", "webcam", "clipboard"],
                        height=320,
                        buttons=[],
                    )
                with gr.Column(scale=3, min_width=280):
                    answer = gr.HTML(_WAITING)
                    opacity = gr.Slider(0, 1, 0.5, label="Activation map")
                    how = gr.Radio(
                        choices=[
                            ("Crop the middle", "crop"),
                            ("Pad to a square", "pad"),
                        ],
                        value="crop",
                        label="If it is not square",
                    )
            examples = sorted(map(str, (HERE / "examples").glob("*.png")))
            gr.Examples(examples, image, cache_examples=False)
        if report := report_of(served.predictor):
            with gr.Tab("Where it fails"):
                _report(*report)
        with gr.Tab("The model"):
            gr.Markdown(card.details(served))
        gr.on(
            [image.change, how.change],
            show,
            [image, how],
            answer,
            show_progress="hidden",
            api_visibility="private",
            trigger_mode="always_last",
            **limits,
        ).failure(  # nothing stays that belongs to another picture
            lambda: _WAITING, None, answer, api_visibility="private"
        )
        opacity.input(None, opacity, None, js=_SHOW_MAP, api_visibility="private")
        # For the API alone: the page has its own.
        gr.Button(visible=False).click(
            predict, [image, how], gr.JSON(visible=False), api_name="predict", **limits
        )
    # Each request of the API is a session, of which Gradio would keep the last 10,000
    # at 40 KB. Nothing here needs what was before.
    demo.state_session_capacity = _SESSIONS
    return demo.queue(max_size=max_queue, api_open=False)


def unfinished(demo: gr.Blocks) -> int:
    """How many requests are in its queue or in work."""
    return len(demo._queue.event_ids_to_events)


def _report(report: Mapping[str, Any], pictures: Path) -> None:
    gr.Markdown(card.figures(report))
    mistakes = pictures / "mistakes.png"
    if mistakes.is_file():
        gr.Markdown("### The most confident mistakes")
        gr.Image(mistakes, show_label=False, interactive=False, buttons=["fullscreen"])
    gr.Markdown("### Accuracy of each class")
    gr.Dataframe(
        card.accuracies(report),
        headers=["class", "images", "right"],
        datatype=["str", "number", "str"],
        interactive=False,
        max_height=480,
    )


@contextlib.contextmanager
def _failures_shown() -> Iterator[None]:
    try:
        yield
    except uploads.UnusableImageError as error:
        raise _refused(str(error)) from error


def _refused(sentence: str) -> gr.Error:
    return gr.Error(sentence, title="No answer", print_exception=False)
