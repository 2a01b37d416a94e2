"""The texts of the page, as Markdown is rendered."""

import html
import re
from dataclasses import replace

import card
from classifier import Classifier
from format_fixtures import make_predictor
from markdown_it import MarkdownIt

from jax_resnet.predictor import Predictor

MARKDOWN = MarkdownIt("commonmark").enable("table")


def rendered(text):
    return html.unescape(re.sub("<.*?>", "", MARKDOWN.render(text)))


def test_texts_are_shown_as_they_are():
    stored = make_predictor().stored
    info = replace(stored.metadata.dataset, class_names=("$x$|y", "<b>", "*z*\n"))
    run = replace(stored.metadata.run, command="a `b` | c", device="<i>")
    metadata = replace(stored.metadata, dataset=info, run=run)
    classifier = Classifier(Predictor(replace(stored, metadata=metadata)))
    page = rendered(card.details(classifier))
    assert r"The classes: $x$|y, <b>, *z*\n." in page
    assert "a `b` | c" in page and "on <i>" in page
    report = {"n": 2, "dataset": "d*e*", "split": "test[:2]+`x`", "loss": 1.0}
    report |= dict.fromkeys(("top1", "top5", "ece"), 0.5)
    assert "On 2 images of d*e* test[:2]+`x`: top-1 50" in rendered(
        card.evaluation(report)
    )
