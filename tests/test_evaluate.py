"""The command that evaluates, on a tiny run."""

import json
import re
import shutil

import pytest
from command_line import assert_one_line, records, run_here

from jax_resnet.predictor import Predictor

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
def test_several_runs_are_compared(tiny, workdir, tmp_path):
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

    assert "McNemar" in (tmp_path / "comparison.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "0"], "--batch-size"),
        (["--checkpoint", "7"], "best, latest or a step"),
        (["--output", "/nonsense/report.json"], "/nonsense/report.json"),
        (["--output", "report"], r"--output report .*: .* a name that ends in \.json"),
    ],
)
def test_bad_arguments(tiny, finished, arguments, message):
    assert_one_line(run_here(tiny, finished, *arguments, module="evaluate"), message)
