"""The evaluation's command line on a tiny run."""

import json
import re
import shutil

import pytest
from command_line import assert_one_line, records, run

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


def test_bad_evaluations(tiny, finished):
    for arguments, message in [
        (["--checkpoint", "7"], "best, latest or a step"),
        (["--split", "train[:0]"], "train"),
        (["--split", "nonsense"], "nonsense"),
        (["--batch-size", "0"], "--batch-size"),
        (["--nonsense"], "--nonsense"),
        (["--output", "/nonsense/report.json"], "/nonsense/report.json"),
    ]:
        result = run(tiny, finished, *arguments, module="evaluate")
        assert_one_line(result, message)
