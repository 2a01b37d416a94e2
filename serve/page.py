"""The page and the API of the demo, in Gradio."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import answer_table
import card
import example_pictures
import gradio as gr
import inputs
from answer_table import Answer
from classifier import Classifier
from uploads import Fit, UnusableImageError

_WAITING = (
    '<p class="waiting">Choose a picture, take or paste one, or try an example.</p>'
)
_PROGRESS = gr.Progress()  # as a default, Gradio replaces it by the request's own
_ON_EXAMPLE = """element.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  trigger("click", {shows: button.value});
  document.getElementById("one").scrollIntoView({block: "nearest"});
});"""
# The server answers the address.
_MISTAKES = """<div class="mistakes"><h2>Its most confident mistakes</h2>
<p>Above each picture: the model's answer, and what it really is.</p>
<a href="mistakes.png" target="_blank"><img loading="lazy" src="mistakes.png"
 alt="Test pictures that the model was sure of and wrong about"></a></div>"""
_WIDTHS = ["35%", "20%", "45%"]  # of the columns of the table of classes
_SET_OPACITY = "v => document.documentElement.style.setProperty('--map-opacity', v)"


def build(
    classifier: Classifier, *, max_queue: int, concurrency: int, max_pictures: int
) -> gr.Blocks:
    """Builds the page, and the API endpoint ``/predict``.

    At most ``max_queue`` requests wait; further ones get HTTP 503.
    """
    limits = {"concurrency_limit": concurrency, "concurrency_id": "model"}
    report, mistakes = classifier.evaluation or (None, None)
    with gr.Blocks(
        title=classifier.title, analytics_enabled=False, delete_cache=(600, 3600)
    ) as demo:
        _markdown(card.headline(classifier, report), elem_id="headline")
        with gr.Tab("Picture"):
            _one_tab(classifier, limits)
        with gr.Tab("Several"):
            _several_tab(classifier, max_pictures, limits)
        with gr.Tab("What it knows"):
            _knowledge_tab(classifier, report, mistakes)
        with gr.Tab("Model"):
            _markdown(card.details(classifier), elem_id="details")
    inputs.answer_wrong_arguments(demo, max_pictures)
    # Every API request is a session, and Gradio would keep the last 10,000 of them with
    # their pictures.
    demo.state_session_capacity = 32
    return demo.queue(max_size=max_queue, api_open=False)


def _one_tab(classifier: Classifier, limits: Mapping[str, Any]) -> None:
    with gr.Row(elem_id="one"):
        image = inputs.Picture(
            label="Picture",
            sources=["upload", "webcam", "clipboard"],
            height="var(--input-height)",
            buttons=[],
        )
        result = gr.HTML(_WAITING, apply_default_css=False)
        with gr.Accordion("Options", open=False):
            fit = _fit_choice()
            opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Strength of highlights")
    _examples(classifier, image)

    def predict(image: Path | bytes | None, fit: Fit) -> dict[str, Any]:
        if image is None:
            raise inputs.error("There is no image. Upload one.")
        with inputs.errors_shown():
            return classifier(image, fit).as_dict()

    def show(image: Path | bytes | None, fit: Fit) -> str:
        if image is None:
            return _WAITING
        with inputs.errors_shown():
            return classifier(image, fit).as_html()

    _on_change(image, fit, show, result, _WAITING, show_progress="hidden", **limits)
    opacity.input(None, opacity, None, js=_SET_OPACITY, api_visibility="private")
    # The page has no such button: it carries the API endpoint.
    gr.Button(visible=False).click(
        predict, [image, fit], gr.JSON(visible=False), api_name="predict", **limits
    )


def _examples(classifier: Classifier, image: gr.Image) -> None:
    if not (answered := example_pictures.answered_by(classifier)):
        return
    buttons = gr.HTML(
        example_pictures.as_html(answered),
        js_on_load=_ON_EXAMPLE,
        apply_default_css=False,
    )
    paths = {example.shows: str(example.path) for example in answered}

    def choose(event: gr.EventData) -> str | None:
        try:
            return paths.get(event.shows)
        except (AttributeError, TypeError):  # it is not the page that asks
            return None

    buttons.click(choose, None, image, api_visibility="private", queue=False)


def _several_tab(
    classifier: Classifier, max_pictures: int, limits: Mapping[str, Any]
) -> None:
    waiting = f'<p class="waiting">Choose up to {max_pictures} pictures at once.</p>'
    with gr.Row(elem_id="several"):
        pictures = inputs.Pictures(
            label="Pictures",
            sources=["upload", "clipboard"],
            file_types=["image"],
            height="var(--input-height)",
            buttons=[],
            interactive=True,
        )
        result = gr.HTML(waiting, apply_default_css=False)
        with gr.Accordion("Options", open=False):
            fit = _fit_choice()

    def show(
        pictures: list[tuple[str, Path | bytes]],
        fit: Fit,
        progress: gr.Progress = _PROGRESS,
    ) -> str:
        if not pictures:
            return waiting
        answers = []
        for name, source in progress.tqdm(pictures, desc="Answering", unit="pictures"):
            try:
                answers.append(Answer(name, classifier(source, fit)))
            except UnusableImageError as error:
                answers.append(Answer(name, problem=str(error)))
        return answer_table.as_html(answers)

    _on_change(pictures, fit, show, result, waiting, **limits)


def _on_change(
    source: gr.Image | gr.Gallery,
    fit: gr.Radio,
    show: Callable[..., str],
    result: gr.HTML,
    waiting: str,
    **settings: Any,
) -> None:
    """Shows the answer when the pictures or their fit change."""
    gr.on(
        [source.change, fit.change],
        show,
        [source, fit],
        result,
        api_visibility="private",
        trigger_mode="always_last",
        **settings,
        # An error clears the result of the picture before.
    ).failure(lambda: waiting, None, result, api_visibility="private")


def _fit_choice() -> gr.Radio:
    return inputs.FitChoice(
        choices=[("Crop the middle", "crop"), ("Pad to a square", "pad")],
        value="crop",
        label="If a picture is not square",
    )


def _knowledge_tab(
    classifier: Classifier, report: Mapping[str, Any] | None, mistakes: Path | None
) -> None:
    header, rows = card.classes(classifier, report)
    _markdown(card.knowledge(classifier, report))
    gr.Dataframe(
        rows,
        headers=header,
        datatype="str",
        interactive=False,
        show_search="search",
        column_widths=_WIDTHS[: len(header)],
        wrap=True,
        buttons=[],
        max_height=480,
    )
    if mistakes:
        gr.HTML(_MISTAKES)  # gr.Image has no alternative text


def _markdown(text: str, elem_id: str | None = None) -> None:
    """Shows Markdown, in which ``$`` has no meaning."""
    gr.Markdown(text, latex_delimiters=[], elem_id=elem_id)
