"""The real command lines on a tiny run: training, resuming, evaluating, refusing."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jax_resnet import checkpoint

ROOT = Path(__file__).parent.parent
EPOCHS = 3
TIMES = ("seconds", "images_per_second")

TINY = """
import sys
sys.path.insert(0, {configs!r})
import smoke

def get_config():
    config = smoke.get_config()
    config.data.train_split = "train[:256]"
    config.data.eval_split = "test[:100]"
    config.train.batch_size = 32
    config.train.eval_batch_size = 40
    config.train.epochs = {epochs}
    return config
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A config file, and an environment with a compilation cache of its own."""
    folder = tmp_path_factory.mktemp("tiny")
    config = folder / "tiny.py"
    config.write_text(TINY.format(configs=str(ROOT / "configs"), epochs=EPOCHS))
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    environment["PYTHONPATH"] = str(ROOT)
    return config, environment


def command(tiny, workdir, *arguments, module="train"):
    config = ["--config", str(tiny[0])] if module == "train" else []
    return [
        *(sys.executable, "-m", f"jax_resnet.{module}"),
        *config,
        *("--workdir", str(workdir)),
        *arguments,
    ]


def run(tiny, workdir, *arguments, module="train"):
    return subprocess.run(
        command(tiny, workdir, *arguments, module=module),
        env=tiny[1],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tiny[0].parent,
    )


def start(tiny, workdir, *arguments):
    return subprocess.Popen(
        command(tiny, workdir, *arguments),
        env=tiny[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def assert_one_line(result, message):
    assert result.returncode == 2, result.stdout + result.stderr
    assert re.search(message, result.stderr), result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").open()]


def without_times(workdir):
    return [{k: v for k, v in r.items() if k not in TIMES} for r in records(workdir)]


def log_without_times(workdir):
    text = (workdir / "log.md").read_text()
    text = re.sub(r"^\| (command|started) .*$", "", text, flags=re.M)
    text = re.sub(r"\| \**[\d.]+\** \|$", "", text, flags=re.M)  # the column of seconds
    return re.sub(r"^[\d,]+ s in all.*$", "", text, flags=re.M)


def final_arrays(workdir):
    latest = checkpoint.select(workdir, "latest")
    return latest.arrays("model") | latest.arrays("training")


def assert_same_run(workdir, reference):
    assert without_times(workdir) == without_times(reference)
    assert log_without_times(workdir) == log_without_times(reference)
    expected = final_arrays(reference)
    found = final_arrays(workdir)
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """An uninterrupted run."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    result = run(tiny, workdir)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return workdir


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


@pytest.mark.parametrize("batch_size", ["7", "100"])
def test_evaluation_repeats_the_logged_figures(tiny, finished, batch_size):
    result = run(
        tiny,
        finished,
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


@pytest.mark.parametrize("steps_per_call", [1, 5])
def test_results_do_not_depend_on_the_chunk_size(
    tiny, finished, tmp_path, steps_per_call
):
    override = f"--config.train.steps_per_call={steps_per_call}"
    assert run(tiny, tmp_path / "run", override).returncode == 0
    assert_same_run(tmp_path / "run", finished)


@pytest.mark.slow
def test_kill_at_random_moments_then_resume(tiny, finished, tmp_path):
    workdir = tmp_path / "run"
    generator = random.Random(0)
    # One step a call makes the run long enough to be cut in all its parts.
    slow = "--config.train.steps_per_call=1"
    kills = 0
    for _ in range(5):
        process = start(tiny, workdir, slow)
        time.sleep(generator.uniform(3.0, 8.0))
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 3
    result = run(tiny, workdir)
    assert result.returncode == 0, result.stderr
    assert_same_run(workdir, finished)


def wait_for(process, pattern):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return
    raise AssertionError("".join(lines))


def interrupted(tiny, workdir, number):
    process = start(tiny, workdir, "--config.train.steps_per_call=1")
    wait_for(process, "epoch 1/3")
    process.send_signal(number)
    started = time.monotonic()
    output, _ = process.communicate(timeout=20)
    assert time.monotonic() - started < 10
    assert "the same command resumes" in output
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["complete"] is False
    return process.returncode


def test_signals_save_and_stop_and_the_run_goes_on(tiny, finished, tmp_path):
    workdir = tmp_path / "run"
    assert interrupted(tiny, workdir, signal.SIGTERM) == 143
    result = run(tiny, workdir)
    assert result.returncode == 0, result.stderr
    assert "resuming at step" in result.stdout
    assert_same_run(workdir, finished)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_other_signals_save_and_stop(tiny, tmp_path, number, code):
    assert interrupted(tiny, tmp_path / "run", number) == code


def test_a_signal_before_training_leaves_at_once(tiny, tmp_path):
    process = start(tiny, tmp_path / "run")
    wait_for(process, "training on")
    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    process.communicate(timeout=20)
    assert process.returncode == 143
    assert time.monotonic() - started < 2


def test_a_second_process_is_refused(tiny, tmp_path):
    workdir = tmp_path / "run"
    first = start(tiny, workdir)
    wait_for(first, "compiled in")
    try:
        assert_one_line(run(tiny, workdir), rf"in use by process {first.pid} on ")
    finally:
        first.kill()
        first.communicate()


def test_a_run_of_another_config_is_refused(tiny, finished):
    result = run(tiny, finished, "--config.optimizer.learning_rate=0.2")
    assert_one_line(result, "optimizer.learning_rate was 0.1 and is 0.2")


def test_divergence_stops_the_run_and_names_the_step(tiny, tmp_path):
    result = run(tiny, tmp_path / "run", "--config.optimizer.learning_rate=1e30")
    assert_one_line(result, r"not finite at step \d+")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["complete"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.model.depth=21"], "depth must be 6n\\+2"),
        (["--config.train.batch_size=257"], "only 256 training images"),
        (["--config.augment.recipe=('cutot', 'normalize')"], "'cutot'.*'cutout'"),
        (["--config.train.device=gpu"], "train.device=gpu.*does not find"),
        (["--config.train.device=tpu"], "train.device must be"),
        (["--config.data.name=cifar1000"], "cifar1000"),
        (["--config.data.train_split=train[:"], "train_split|train\\["),
        (["--config.model.dept=20"], "did you mean 'model.depth'"),
    ],
)
def test_bad_settings(tiny, tmp_path, arguments, message):
    assert_one_line(run(tiny, tmp_path / "run", *arguments), message)


def test_bad_workdirs(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    assert_one_line(run(tiny, tmp_path / "file" / "run"), "cannot write to workdir")
    result = run(tiny, tmp_path / "nothing", module="evaluate")
    assert_one_line(result, "no checkpoint in")


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
