"""The evaluation's command line on a tiny run."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from command_line import assert_one_line, records, run

from jax_resnet import data, evaluate
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError

TEST = ("--split", "test[:100]")


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy of the run, because an evaluation leaves its report in it."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.parametrize("batch_size", ["7", "100"])
def test_evaluation_repeats_the_logged_figures(tiny, finished, workdir, batch_size):
    result = run(
        tiny,
        workdir,
        *("--split", "test[:100]", "--checkpoint", "latest"),
        *("--batch-size", batch_size, "--output", "report.json"),
        module="evaluate",
    )
    assert result.returncode == 0, result.stderr
    report = json.loads((tiny[0].parent / "report.json").read_text())
    last = records(finished)[-1]
    assert (report["top1"], report["top5"]) == (last["val_top1"], last["val_top5"])
    assert report["loss"] == pytest.approx(last["val_loss"], rel=1e-4)
    assert report["n"] == 100
    assert f"{100 * last['val_top1']:.2f} %" in result.stdout


def test_a_report_with_all_that_can_be_asked_for(tiny, workdir):
    extra = ("--tta", "flip", "--corruptions", "20")
    result = run(tiny, workdir, *TEST, *extra, module="evaluate")
    assert result.returncode == 0, result.stderr
    report = json.loads((workdir / "evaluation-test__100.json").read_text())
    page = (workdir / "evaluation-test__100.md").read_text()
    for picture in re.findall(r"\]\((.*?\.png)\)", page):
        assert (workdir / picture).stat().st_size > 5000
    assert 0 <= report["tta_flip"]["top1"] <= 1
    assert report["corruptions"]["n"] == 20
    assert {len(row) for row in report["corruptions"]["top1"].values()} == {5}
    temperature = json.loads((workdir / "temperature.json").read_text())
    assert temperature["temperature"] == report["calibration"]["temperature"]
    assert temperature["step"] == report["step"]


def test_several_runs_are_compared(tiny, workdir, tmp_path):
    output = tmp_path / "comparison.json"
    result = run(
        tiny,
        workdir,
        str(workdir),
        *TEST,
        *("--output", str(output)),
        module="evaluate",
    )
    assert result.returncode == 0, result.stderr
    comparison = json.loads(output.read_text())
    one, other = comparison["models"]
    assert one == other
    (test,) = comparison["paired_tests"]
    assert (test["only_first"], test["only_second"], test["p_value"]) == (0, 0, 1.0)
    assert comparison["top1_over_models"]["mean"] == pytest.approx(one["top1"])
    assert "McNemar" in (tmp_path / "comparison.md").read_text()


def test_different_runs_are_an_ensemble_too(tiny, workdir, tmp_path):
    other = shutil.copytree(workdir, tmp_path / "other")
    shutil.rmtree(other / "checkpoints" / "24")
    output = tmp_path / "comparison.json"
    result = run(
        tiny,
        workdir,
        str(other),
        *(*TEST, "--checkpoint", "latest", "--output", str(output)),
        module="evaluate",
    )
    assert result.returncode == 0, result.stderr
    comparison = json.loads(output.read_text())
    one, two = comparison["models"]
    assert (one["step"], two["step"]) == (24, 16)
    mean = (one["top1"] + two["top1"]) / 2
    assert comparison["top1_over_models"]["mean"] == pytest.approx(mean)

    _, test = data.load_split("synthetic", "test[:100]", data_dir=None)
    logits = [
        Predictor.open(path, "latest").logits(test.images).astype(np.float64)
        for path in (workdir, other)
    ]
    powers = [np.exp(one_of) for one_of in logits]
    probabilities = np.mean([p / p.sum(axis=1, keepdims=True) for p in powers], axis=0)
    ensemble = comparison["ensemble"]
    assert ensemble["members"] == 2
    assert ensemble["top1"] == np.mean(probabilities.argmax(axis=1) == test.labels)
    losses = -np.log(probabilities[np.arange(100), test.labels])
    assert ensemble["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    page = (tmp_path / "comparison.md").read_text()
    models, _, ensembles = page.partition("## The ensemble, no single model")
    assert str(other) in models and "all 2 together" not in models
    assert f"| all 2 together | {100 * ensemble['top1']:.2f} % (" in ensembles
    assert "mean of softmax(logits), without temperatures" in ensembles


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "train[:0]"], "train"),
        (["--split", "nonsense"], "nonsense"),
        (["--batch-size", "0"], "--batch-size"),
        (["--nonsense"], "--nonsense"),
        (["--output", "/nonsense/report.json"], "/nonsense/report.json"),
    ],
)
def test_bad_evaluations(tiny, finished, monkeypatch, arguments, message):
    before = jax.config.jax_default_device
    monkeypatch.setenv("XDG_CACHE_HOME", tiny[1]["XDG_CACHE_HOME"])
    try:
        with pytest.raises(UserError, match=message):
            evaluate.main(["--workdir", str(finished), *arguments])
    finally:
        jax.config.update("jax_default_device", before)


def test_a_bad_evaluation_is_refused_in_one_line(tiny, finished):
    result = run(tiny, finished, "--checkpoint", "7", module="evaluate")
    assert_one_line(result, "best, latest or a step")
