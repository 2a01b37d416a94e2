"""What the page says of the model that is served by default is what the model does."""

import re
import tomllib

import card
import example_pictures
import numpy as np
import pytest
from classifier import Classifier, default_model
from PIL import Image

from jax_resnet.predictor import Predictor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def classifier():
    return Classifier(Predictor.open(default_model()))


@pytest.fixture(scope="module")
def answers(classifier):
    """For each example what it shows and the answer, without the demo's code."""
    predictor = classifier.predictor
    text = (example_pictures.FOLDER / "examples.toml").read_text()
    found = {}
    for picture in tomllib.loads(text)["pictures"]:
        image = Image.open(example_pictures.FOLDER / picture["file"]).convert("RGB")
        small = image.resize(predictor.info.image_shape[:2], Image.Resampling.LANCZOS)
        (probabilities,) = predictor.predict(np.asarray(small)[None])
        name = predictor.info.class_names[probabilities.argmax()]
        found[picture["shows"]] = name.replace("_", " ")
    return found


def test_the_examples_are_answered_as_the_page_says(classifier, answers):
    answered = example_pictures.answered_by(classifier)
    assert {each.shows: each.answer for each in answered} == answers
    text = example_pictures.summary(answered)
    wrong = dict(re.findall(r"takes the (\w+) for “([\w ]+)”", text))
    known = {each.shows: each.answer for each in answered if each.is_known}
    right = len(known) - len(wrong)
    assert wrong == {shows: given for shows, given in known.items() if shows != given}
    assert f"{len(known)} of these things and is right on {right}." in text
    assert "The cat is none of the things" in text
    # A model that gets most of them wrong is announced as one that is not well trained.
    is_announced = card.headline(classifier, None).startswith("> **Not well trained")
    assert is_announced == (len(wrong) > len(known) / 2)
    # Of a good one, the page also says why it gets one of them wrong.
    assert is_announced or all(e.why for e in answered if e.shows in wrong)


def test_the_examples_are_of_as_many_superclasses(classifier):
    info = classifier.predictor.info
    known = [e.shows for e in example_pictures.answered_by(classifier) if e.is_known]
    groups = {info.superclass_of[info.class_names.index(name)] for name in known}
    assert len(groups) == len(known) >= 7


def test_the_figure_is_that_of_the_evaluation(classifier):
    report, _ = classifier.evaluation
    assert f"({100 * report['top1']:.2f} %)" in card.headline(classifier, None)
