"""Runs the command lines on a config of three small epochs."""

import contextlib
import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jaxtyping
import numpy as np
import pytest

from jax_resnet.checkpoint import store
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.signals import Interrupt

ROOT = Path(__file__).parent.parent
# Settings of JAX with which programs break, or compute other things.
UNUSUAL = {
    "jax_enable_x64": True,
    "jax_disable_jit": True,
    "jax_no_tracing": True,
    "jax_debug_nans": True,
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 5,
    "jax_transfer_guard": "disallow_explicit",
}
TIMES = ("seconds", "images_per_second")
TINY = f"""
import sys
sys.path.insert(0, {str(ROOT / "configs")!r})
import smoke

def get_config():
    config = smoke.get_config()
    config.data.train_split = "train[:256]"
    config.data.eval_split = "test[:100]"
    config.train.batch_size = 32
    config.train.eval_batch_size = 40
    config.train.epochs = 3
    return config
"""


def command(tiny, workdir, *arguments, module="train"):
    """Returns the words of a command; ``tiny`` is the path of the config file."""
    config = ["--config", str(tiny), "--config.mesh.devices=1"]
    return [
        *(sys.executable, "-m", f"jax_resnet.{module}"),
        *(config if module == "train" else []),
        *("--workdir", str(workdir)),
        *arguments,
    ]


def run(tiny, workdir, *arguments, module="train"):
    words = command(tiny, workdir, *arguments, module=module)
    return subprocess.run(words, capture_output=True, text=True, timeout=240)


def start(tiny, workdir, *arguments):
    words = command(tiny, workdir, *arguments)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(words, text=True, **pipes)


def wait_for(process, pattern):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return
    raise AssertionError("".join(lines))


@contextlib.contextmanager
def unchecked():
    """Without shape checks: lowering a step fills its trees with other things."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@contextlib.contextmanager
def jax_settings_restored(changes=()):
    """Undoes these changes of JAX's settings, and those of a command, at the end."""
    before = dict(jax.config.values)
    try:
        for name, value in dict(changes).items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in jax.config.values.items():
            if value != before[name]:
                jax.config.update(name, before[name])


def run_here(tiny, workdir, *arguments, module="train"):
    """Like `run`, but in this process, which saves the seconds of starting another."""
    main = importlib.import_module(f"jax_resnet.{module}").main
    words = command(tiny, workdir, *arguments, module=module)[3:]
    out, err = io.StringIO(), io.StringIO()
    with (
        jax_settings_restored(),
        unchecked(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = main(words)
        except (UserError, OSError) as error:
            code = getattr(error, "exit_code", 2)
            err.write(f"error: {' '.join(str(error).split())}\n")
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


class InterruptInEpoch2(Interrupt):
    """Sends SIGTERM to this process in the second epoch of a run."""

    _times = 0

    def is_due(self, seconds):
        self._times += 1  # twice in each of the eleven steps of an epoch
        if self._times == 30:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().is_due(seconds)


def interrupted(tiny, workdir, *arguments):
    """Returns the workdir of a run that SIGTERM stopped in its second epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jax_resnet.train.Interrupt", InterruptInEpoch2)
        step_by_step = "--config.train.steps_per_call=1"
        result = run_here(tiny, workdir, step_by_step, *arguments)
    assert result.returncode == 143, result.stderr
    assert len(records(workdir)) == 1
    return workdir


def assert_one_line(result, message):
    assert result.returncode == 2, result.stdout + result.stderr
    assert re.search(message, result.stderr), result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").open()]


def without_times(workdir):
    """Returns the records and the log of a run, without what depends on the time."""
    kept = [{k: v for k, v in r.items() if k not in TIMES} for r in records(workdir)]
    log = (workdir / "log.md").read_text()
    seconds = r"\| \**[\d.]+\** \|$"  # the last column
    times = rf"^\| (command|started) .*$|{seconds}|^[\d,]+ s in all.*$"
    return kept, re.sub(times, "", log, flags=re.M)


def final_arrays(workdir):
    latest = store.select(workdir, "latest")
    return latest.arrays("model") | latest.arrays("training")


def assert_same_run(workdir, reference):
    assert without_times(workdir) == without_times(reference)
    one, other = (run / "augmentations.png" for run in (workdir, reference))
    assert one.read_bytes() == other.read_bytes()
    found, expected = final_arrays(workdir), final_arrays(reference)
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def assert_checkpoints_sound(workdir):
    """Whatever has the name of a step is complete, and what was saved."""
    assert store.find_damaged(workdir) == []


def assert_carries_on(tiny, workdir, reference):
    """The same command ends a run as the reference ended; returns the output."""
    assert_checkpoints_sound(workdir)
    result = run_here(tiny, workdir)
    assert (result.returncode, result.stderr) == (0, "")
    assert_same_run(workdir, reference)
    return result.stdout
