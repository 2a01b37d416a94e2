"""The command that evaluates, on a tiny run."""

import json
import re
import shutil

import numpy as np
import pytest
from command_line import assert_one_line, records, run_here
from scipy.special import softmax

from jax_resnet import data
from jax_resnet.predict import Predictor

SPLIT = ("--split", "test[:100]")


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy of the run, because the evaluation writes its report into it."""
    return shutil.copytree(finished, tmp_path / "run")


def evaluate(tiny, *arguments):
    result = run_here(tiny, *arguments, *SPLIT, module="evaluate")
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_the_report_repeats_the_logged_metrics(tiny, workdir):
    options = ("--checkpoint", "latest", "--batch-size", "7")
    output = evaluate(tiny, workdir, *options)
    report = json.loads((workdir / "evaluation-test__100.json").read_text())
    last = records(workdir)[-1]
    assert (report["top1"], report["top5"]) == (last["val_top1"], last["val_top5"])
    assert report["loss"] == pytest.approx(last["val_loss"], rel=1e-4)
    assert f"| top-1 | {100 * last['val_top1']:.2f} % (" in output

    page = (workdir / "evaluation-test__100.md").read_text()
    for picture in re.findall(r"\]\((.*?\.png)\)", page):
        assert (workdir / picture).stat().st_size > 5000
    temperature = json.loads((workdir / "temperature.json").read_text())
    assert temperature["temperature"] == report["calibration"]["temperature"]
    assert temperature["step"] == report["step"]
    predictor = Predictor.open(workdir, "latest")
    assert predictor.temperature == temperature["temperature"]


@pytest.mark.slow
def test_several_runs_are_compared_and_combined(tiny, workdir, tmp_path):
    other = shutil.copytree(workdir, tmp_path / "other")
    shutil.rmtree(other / "checkpoints" / "24")
    output = tmp_path / "comparison.json"
    options = ("--checkpoint", "latest", "--output", str(output))
    evaluate(tiny, workdir, str(other), str(workdir), *options)
    comparison = json.loads(output.read_text())
    one, two, three = comparison["models"]
    assert one == three and (one["step"], two["step"]) == (24, 16)
    same = comparison["paired_tests"][1]
    assert (same["first"], same["second"]) == (str(workdir), str(workdir))
    assert (same["only_first"], same["only_second"], same["p_value"]) == (0, 0, 1.0)

    _, test = data.load_split("synthetic", "test[:100]", data_dir=None)
    logits = [Predictor.open(w, "latest").logits(test.images) for w in (workdir, other)]
    mean = (2 * softmax(logits[0], axis=1) + softmax(logits[1], axis=1)) / 3
    ensemble = comparison["ensemble"]
    assert ensemble["top1"] == np.mean(mean.argmax(axis=1) == test.labels)
    losses = -np.log(mean[np.arange(100), test.labels])
    assert ensemble["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    assert "McNemar" in (tmp_path / "comparison.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "train[:0]"], "train"),
        (["--batch-size", "0"], "--batch-size"),
        (["--checkpoint", "7"], "best, latest or a step"),
        (["--output", "/nonsense/report.json"], "/nonsense/report.json"),
    ],
)
def test_bad_arguments(tiny, finished, arguments, message):
    assert_one_line(run_here(tiny, finished, *arguments, module="evaluate"), message)
