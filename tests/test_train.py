"""The training command on a tiny run: its directory, other models, refusals."""

import json
import shlex
import shutil

import numpy as np
import pytest
from command_line import (
    UNUSUAL,
    assert_one_line,
    assert_same_run,
    final_arrays,
    jax_settings_restored,
    records,
    run_here,
)

from jax_resnet.checkpoint import store
from jax_resnet.predictor import Predictor

ONE_EPOCH = "--config.train.epochs=1"


@pytest.mark.slow  # if it is the first to train the run
def test_a_run_leaves_its_directory(finished):
    names = {path.name for path in finished.iterdir()} - {".lock"}
    assert names == {
        *("config.json", "metrics.jsonl", "log.md", "curves.png", "summary.json"),
        *("augmentations.png", "tensorboard", "checkpoints"),
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
    statistics = [a for n, a in final_arrays(finished).items() if "norm.var" in n]
    assert len(statistics) == 9
    assert all((array != 1).all() for array in statistics)


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(tiny, finished):
    before = {n: (finished / n).read_text() for n in ("log.md", "metrics.jsonl")}
    result = run_here(tiny, finished)
    assert "is complete" in result.stdout
    assert {n: (finished / n).read_text() for n in before} == before


@pytest.mark.slow
def test_results_do_not_depend_on_the_size_of_calls_or_jaxs_settings(
    tiny, finished, tmp_path
):
    with jax_settings_restored(UNUSUAL):
        workdir = tmp_path / "a user's run"
        result = run_here(tiny, workdir, "--config.train.steps_per_call=5")
    assert result.returncode == 0, result.stderr
    assert_same_run(workdir, finished)
    command = shlex.join(["jax_resnet.evaluate", "--workdir", str(workdir)])
    assert result.stdout.endswith(f"python -m {command}\n")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.augment.transforms=('cutot', 'normalize')", "'cutot'.*'cutout'"),
        ("--config.train.device=gpu", "JAX finds no device of kind 'gpu'"),
        ("--config.data.name=cifar1000", "cifar1000"),
        ("--config.data.train_split=train[:", "train_split|train\\["),
        ("--config.data.eval_split=tset", "no split 'tset'.*did you mean 'test'"),
        ("--config.model.dtype=float16", "model.dtype must be one of"),
        ("--config.train.batch_size=257", "only 256 training images"),
        ("--config.train.initial_model=nowhere", "initial_model: no checkpoint in"),
        ("--config.seed=1", "holds a run of another config"),
        ("--workdir=/dev/null/run", "cannot write to workdir"),
    ],
)
def test_bad_settings(tiny, tmp_path, argument, message):
    (tmp_path / "config.json").write_text("{}")  # another run's
    assert_one_line(run_here(tiny, tmp_path, argument), message)


@pytest.mark.slow
def test_a_run_starts_from_another_model(tiny, finished, tmp_path):
    start = f"--config.train.initial_model={finished}"
    unmoved = ("--config.optimizer.learning_rate=0.0", ONE_EPOCH)
    result = run_here(tiny, tmp_path / "run", start, *unmoved)
    assert f"starting from the weights of {finished}: tiny, step" in result.stdout
    assert "| started from |" in (tmp_path / "run" / "log.md").read_text()
    found = final_arrays(tmp_path / "run")
    for name, array in Predictor.open(finished).params.items():
        np.testing.assert_array_equal(found[f"state.params.{name}"], array)
    other = run_here(tiny, tmp_path / "other", start, "--config.model.depth=14")
    assert_one_line(other, r"initial_model .* does not fit: .*; it has model.depth=8,")


@pytest.mark.ci
def test_a_run_keeps_its_teacher(tiny, finished, tmp_path):
    teacher = shutil.copytree(finished, tmp_path / "teacher")
    workdir = tmp_path / "run"
    taught = f"--config.distill.teacher={teacher}"
    result = run_here(tiny, workdir, taught, ONE_EPOCH)
    assert result.returncode == 0, result.stderr
    assert f"| taught by | {teacher}: tiny, step " in (workdir / "log.md").read_text()
    # Another step of the same model, in the teacher's place.
    shutil.rmtree(store.select(teacher, "best").path)
    result = run_here(tiny, workdir, taught, "--accept-changes")
    assert_one_line(result, "distill.teacher was .*, and is .*: put that model back")
