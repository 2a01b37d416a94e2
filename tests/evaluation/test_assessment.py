import json
import re

import numpy as np
import pytest
from metadata_fixtures import run_metadata
from PIL import Image

from jax_resnet.evaluation.assessment import assess
from jax_resnet.evaluation.figures import draw_all
from jax_resnet.evaluation.metrics import evaluate, log_softmax
from jax_resnet.evaluation.report import render, render_comparison

INFO = run_metadata().dataset
N = 60


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, N)
    logits = rng.normal(size=(N, 3)).astype(np.float32)
    logits[np.arange(N), labels] += 1
    return logits, labels


@pytest.fixture(scope="module")
def assessment(split):
    return assess(*split, INFO, split="test")


def about(assessment, **more):
    return {
        "title": "tiny",
        "checkpoint": "best",
        "step": 9,
        "epoch": 2,
        "selected_on": "test",
        "dataset": "grey",
        "split": "test",
        "device": "cpu",
        **assessment.as_dict(),
        **more,
    }


def test_the_figures_are_those_of_metrics(split, assessment):
    assert assessment.evaluation == evaluate(*split, info=INFO)
    figures = assessment.as_dict()
    for name in ("top1", "top5", "loss"):
        low, high = figures["intervals"][name]
        assert low <= figures[name] <= high
    assert assessment.right.mean() == assessment.evaluation.top1
    assert np.trace(assessment.confusion) == assessment.right.sum()
    assert assessment.confusion.sum() == N
    assert assessment.risk[-1] == pytest.approx(1 - assessment.evaluation.top1)
    assert figures["risk_at_coverage"]["1.0"] == assessment.risk[-1]
    json.dumps(figures, allow_nan=False)


def test_mistakes_are_wrong_and_the_most_confident_first(split, assessment):
    logits, labels = split
    confidence = np.exp(log_softmax(logits)).max(axis=1)
    wrong = np.flatnonzero(logits.argmax(axis=1) != labels)
    expected = wrong[np.argsort(-confidence[wrong])][:25]
    assert [m.index for m in assessment.mistakes] == expected.tolist()
    for mistake in assessment.mistakes:
        assert mistake.label == "abc"[labels[mistake.index]]
        assert mistake.predicted == "abc"[logits[mistake.index].argmax()]
        assert mistake.confidence == pytest.approx(confidence[mistake.index])


def test_held_out_images_give_the_temperature(split):
    logits, labels = split
    held_out = 4 * logits, labels
    found = assess(*split, INFO, split="test", held_out=held_out).calibration
    own = assess(*split, INFO, split="test").calibration
    assert found.temperature == pytest.approx(4 * own.temperature, rel=1e-3)
    assert found.fitted_on == "60 training images that were held out"
    assert "cross-validated" in own.fitted_on
    scaled = log_softmax(logits / found.temperature)
    assert found.loss == pytest.approx(-scaled[np.arange(N), labels].mean())


def test_the_page_says_what_the_report_says(assessment):
    report = about(assessment)
    page = render(report, "pictures")
    low, high = (f"{100 * x:.2f} %" for x in report["intervals"]["top1"])
    assert f"| top-1 | {100 * report['top1']:.2f} % ({low} to {high}) |" in page
    assert "the split it is measured on" in page
    assert "mirror" not in page and "Corruptions" not in page
    images = np.zeros((N, 4, 4, 1), np.uint8)
    pictures = draw_all(assessment, images, INFO)
    assert set(re.findall(r"\(pictures/(.*?)\)", page)) == set(pictures)
    report["selected_on"] = "holdout"
    assert "optimistic" not in render(report, "pictures")


def test_what_was_asked_for_stands_apart(assessment):
    report = about(
        assessment,
        tta_flip={"top1": 0.987, "top5": 1.0, "loss": 0.1},
        corruptions={
            "n": 50,
            "clean_top1": 0.5,
            "top1": {"noise": [0.5, 0.4, 0.3, 0.2, 0.1]},
        },
    )
    page = render(report, "pictures")
    assert "| *top-1 with the mirror image too (not the headline)* | 98.70 %" in page
    assert (
        "| noise | 50.00 % | 40.00 % | 30.00 % | 20.00 % | 10.00 % | 30.00 % |" in page
    )
    assert "not those of CIFAR-100-C" in page


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_pictures(tmp_path, assessment, channels):
    images = np.random.default_rng(0).integers(
        0, 256, (N, 4, 4, channels), dtype=np.uint8
    )
    for name, picture in draw_all(assessment, images, INFO).items():
        (tmp_path / name).write_bytes(picture)
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 200
            assert len(np.unique(np.asarray(image.convert("L")))) > 20


def test_a_model_without_mistakes():
    labels = np.arange(30) % 3
    perfect = assess(9 * np.eye(3)[labels], labels, INFO, split="test")
    assert perfect.mistakes == ()
    draw_all(perfect, np.zeros((30, 4, 4, 1), np.uint8), INFO)
    render(about(perfect), "pictures")


def test_a_comparison(assessment):
    model = {"workdir": "runs/a", **about(assessment)}
    page = render_comparison(
        {
            "dataset": "grey",
            "split": "test",
            "interval_level": 0.95,
            "models": [model, {**model, "workdir": "runs/b"}],
            "top1_over_models": {
                "mean": 0.5,
                "standard_deviation": 0.1,
                "interval": [0.4, 0.6],
            },
            "ensemble": {**model, "members": 2, "probabilities": "mean of both"},
            "paired_tests": [
                {
                    "first": "runs/a",
                    "second": "runs/b",
                    "only_first": 3,
                    "only_second": 9,
                    "p_value": 0.1460,
                }
            ],
        }
    )
    assert "| runs/a | runs/b | 3 | 9 | 0.146 |" in page
    assert "Its probabilities are the mean of both" in page
    assert page.index("## The ensemble") > page.index("| runs/b | 9 |")
    assert "Mean 50.00 %, standard deviation 10.00 % over 2 models; 95 %" in page
