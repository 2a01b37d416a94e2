"""The texts of the page, as Markdown is rendered."""

import html
import re
from dataclasses import replace

import card
import pytest
from classifier import Classifier
from format_fixtures import make_predictor
from markdown_it import MarkdownIt
from metadata_fixtures import HISTORY, record

from jax_resnet.predictor import Predictor

MARKDOWN = MarkdownIt("commonmark").enable("table")


def rendered(text):
    return html.unescape(re.sub("<.*?>", "", MARKDOWN.render(text)))


def classifier(*, dataset=(), run=(), history=(), **changes):
    """A classifier with changes of its metadata, and others of its model."""
    stored = make_predictor().stored
    metadata = replace(
        stored.metadata,
        dataset=replace(stored.metadata.dataset, **dict(dataset)),
        run=replace(stored.metadata.run, **dict(run)),
        history=list(history),
    )
    return Classifier(Predictor(replace(stored, metadata=metadata, **changes)))


@pytest.mark.parametrize(("epoch", "selected"), [(1, False), (3, True), (5, False)])
def test_only_the_best_epoch_was_selected(epoch, selected):
    model = classifier(run={"epochs": 5}, history=HISTORY, step=epoch * 391)
    text = card.details(model)
    assert f"after epoch {epoch} of 5" in text
    assert ("selected on the same images" in text) == selected


def test_texts_are_shown_as_they_are():
    changed = classifier(
        dataset={"class_names": ("$x$|y", "<b>", "*z*\n"), "name": "d*e*"},
        run={"command": "a `b` | c", "device": "<i>"},
    )
    page = rendered(card.details(changed))
    assert "a `b` | c" in page and "on <i>" in page
    assert "This model, ResNet-8 on d*e*, knows 3 things." in rendered(
        card.headline(changed, None)
    )
    report = {"n": 2, "dataset": "d*e*", "split": "test[:2]+`x`", "per_class": []}
    report |= dict.fromkeys(("top1", "top5"), 0.5)
    known = rendered(card.knowledge(changed, report))
    assert "Of all 2 pictures (d*e* test[:2]+`x`) it recognised 50.00 %" in known
    _, rows = card.classes(changed, report)
    assert rows == [["$x$|y", ""], ["*z*\\n", ""], ["<b>", ""]]


@pytest.mark.parametrize(
    ("fraction", "words"),
    [
        (0.004, "less than 1 time in 20"),
        (0.2654, "about one time in four"),
        (0.5117, "about one time in two"),
        (0.6712, "about two times in three"),
        (0.73, "about three times in four"),
        (0.94, "about 19 times in 20"),
        (0.99, "almost always"),
    ],
)
def test_odds(fraction, words):
    assert card.odds(fraction) == words


def test_odds_are_never_far_from_the_figure():
    numbers = ("no", "one", "two", "three", "four", "five")
    for thousandth in range(30, 970):
        words = card.odds(thousandth / 1000)
        found = re.fullmatch(r"about (\w+) times? in (\w+)", words).groups()
        times, total = (numbers.index(n) if n in numbers else int(n) for n in found)
        assert abs(times / total - thousandth / 1000) <= 0.025 + 1e-9


def test_a_model_far_from_the_goal_is_announced():
    good = record(1, step=9, val_top1=0.7312)
    bad = record(1, step=9, val_top1=0.2654)
    cifar = {"name": "cifar100"}
    first = rendered(
        card.headline(classifier(dataset=cifar, history=[bad]), None)
    ).strip()
    assert first.startswith("Not well trained: it is right about one time in")
    # No goal is known of another data set.
    unknown = rendered(card.headline(classifier(history=[bad]), None))
    assert unknown.startswith("What is in the picture?")
    measured = rendered(card.headline(classifier(dataset=cifar, history=[good]), None))
    assert measured.startswith("What is in the picture?")
    assert "right about three times in four (73.12 %)" in measured
    assert "was not measured" in card.headline(classifier(), None)
    assert "one time in two (50.00 %)" in card.headline(classifier(), {"top1": 0.5})


def test_the_table_of_classes():
    changed = classifier(
        dataset={"superclass_names": ("big_cats", "fish"), "superclass_of": (1, 0, 0)}
    )
    header, rows = card.classes(changed, None)
    assert header == ["thing", "group"]
    assert rows == [["a", "fish"], ["b", "big cats"], ["c", "big cats"]]
    report = {"per_class": [{"name": "b", "count": 10, "accuracy": 0.25}]}
    header, rows = card.classes(changed, report)
    assert header == ["thing", "right", "group"]
    assert rows[:2] == [["a", "", "fish"], ["b", "25 %", "big cats"]]
