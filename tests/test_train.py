"""The real command lines on a tiny run: training, resuming, evaluating, refusing."""

import json
import shutil

import numpy as np
import pytest
from command_line import (
    assert_one_line,
    assert_same_run,
    final_arrays,
    interrupted,
    records,
    run,
)

from jax_resnet.checkpoint import store
from jax_resnet.predict import Predictor


def test_a_run_leaves_its_directory(finished):
    names = {p.name for p in finished.iterdir()} - {".lock"}
    assert names == {
        *("config.json", "metrics.jsonl", "log.md", "curves.png", "summary.json"),
        *("tensorboard", "checkpoints"),
    }
    history = records(finished)
    assert [r["epoch"] for r in history] == [1, 2, 3]
    assert [r["step"] for r in history] == [8, 16, 24]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert history[-1]["learning_rate"] < history[0]["learning_rate"] < 0.1
    recorded = json.loads((finished / "config.json").read_text())
    assert recorded["model"]["dtype"] == "float32"  # where the config says "auto"
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["complete"] is True
    assert summary["parameters"] == 78_042
    assert summary["last"] == history[-1]
    assert summary["selected_on"] == "test[:100]"


def test_batch_norm_statistics_have_moved(finished):
    statistics = [a for n, a in final_arrays(finished).items() if "norm.var" in n]
    assert len(statistics) == 9
    assert all((a != 1).all() for a in statistics)


def test_a_finished_run_is_left_as_it_is(tiny, finished):
    before = {n: (finished / n).read_text() for n in ("log.md", "metrics.jsonl")}
    result = run(tiny, finished)
    assert result.returncode == 0
    assert {n: (finished / n).read_text() for n in before} == before


def test_results_do_not_depend_on_the_chunk_size(tiny, finished, tmp_path):
    override = "--config.train.steps_per_call=5"
    assert run(tiny, tmp_path / "run", override).returncode == 0
    assert_same_run(tmp_path / "run", finished)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.augment.transforms=('cutot', 'normalize')"], "'cutot'.*'cutout'"),
        (["--config.train.device=gpu"], "train.device=gpu.*does not find"),
        (["--config.data.name=cifar1000"], "cifar1000"),
        (["--config.data.train_split=train[:"], "train_split|train\\["),
        (["--config.model.dept=20"], "did you mean 'model.depth'"),
    ],
)
def test_bad_settings(tiny, tmp_path, arguments, message):
    assert_one_line(run(tiny, tmp_path / "run", *arguments), message)


def test_a_run_starts_from_another_model(tiny, finished, tmp_path):
    start = f"--config.train.initial_model={finished}"
    unmoved = ("--config.optimizer.learning_rate=0.0", "--config.train.epochs=1")
    result = run(tiny, tmp_path / "run", start, *unmoved)
    assert result.returncode == 0, result.stderr
    assert f"starting from the weights of {finished}: tiny, step" in result.stdout
    assert "| started from |" in (tmp_path / "run" / "log.md").read_text()
    found = final_arrays(tmp_path / "run")
    expected = Predictor.open(finished).params
    for name, array in expected.items():
        np.testing.assert_array_equal(found[f"state.params.{name}"], array)


def test_a_run_learns_from_a_teacher(tiny, finished, tmp_path):
    taught = f"--config.distill.teacher={finished}"
    result = run(tiny, tmp_path / "run", taught)
    assert result.returncode == 0, result.stderr
    # The schedule is the same, and the loss another one.
    losses = [records(path)[0]["train_loss"] for path in (tmp_path / "run", finished)]
    assert abs(losses[0] - losses[1]) > 0.1
    log = (tmp_path / "run" / "log.md").read_text()
    assert f"| taught by | {finished}: tiny, step " in log


def test_a_run_goes_on_with_the_teacher_that_it_had(tiny, finished, tmp_path):
    teacher = shutil.copytree(finished, tmp_path / "teacher")
    taught = f"--config.distill.teacher={teacher}"
    workdir = interrupted(tiny, tmp_path / "run", taught)
    # Another step of the same run, in its place.
    shutil.rmtree(store.select(teacher, "best").path)
    result = run(tiny, workdir, taught)
    assert_one_line(result, "distill.teacher was .*, and is .*: put that model back")


def test_models_that_a_run_cannot_start_from(tiny, finished, tmp_path):
    start = f"--config.train.initial_model={finished}"
    other = run(tiny, tmp_path / "other", start, "--config.model.depth=14")
    assert_one_line(other, r"initial_model .* does not fit: another model")
    missing = "--config.train.initial_model=nowhere"
    assert_one_line(run(tiny, tmp_path / "missing", missing), "no checkpoint in")


def test_bad_workdirs(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    assert_one_line(run(tiny, tmp_path / "file" / "run"), "cannot write to workdir")
    result = run(tiny, tmp_path / "nothing", module="evaluate")
    assert_one_line(result, "no checkpoint in")


def test_divergence_stops_the_run_and_names_the_step(tiny, tmp_path):
    result = run(tiny, tmp_path / "run", "--config.optimizer.learning_rate=1e30")
    assert_one_line(result, r"not finite at step \d+")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["complete"] is False
