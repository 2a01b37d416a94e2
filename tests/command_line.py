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
from typing import NamedTuple

import jax
import jaxtyping
import numpy as np
import pytest

from jax_resnet.checkpoint import store
from jax_resnet.runtime.errors import UserError

ROOT = Path(__file__).parent.parent
EPOCHS = 3
TIMES = ("seconds", "images_per_second")
# Settings of JAX that a command changes for its process.
JAX_SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_default_device",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_platforms",
)

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


@contextlib.contextmanager
def unchecked():
    """Without shape checks: lowering a step fills its trees with other things."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


class Tiny(NamedTuple):
    """A config file, an environment with its own caches, and devices to train on."""

    config: Path
    environment: dict[str, str]
    devices: int = 1


def make_tiny(folder):
    config = folder / "tiny.py"
    config.write_text(TINY.format(configs=str(ROOT / "configs"), epochs=EPOCHS))
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(paths),
        # XLA for CPU adds up in another order with another number of devices. With as
        # many as the tests have, a process computes the same, bit for bit.
        "JAX_NUM_CPU_DEVICES": str(jax.config.jax_num_cpu_devices),
    }
    return Tiny(config, environment)


def command(tiny, workdir, *arguments, module="train"):
    config = ["--config", str(tiny.config), f"--config.mesh.devices={tiny.devices}"]
    return [
        *(sys.executable, "-m", f"jax_resnet.{module}"),
        *(config if module == "train" else []),
        *("--workdir", str(workdir)),
        *arguments,
    ]


def run(tiny, workdir, *arguments, module="train"):
    return subprocess.run(
        command(tiny, workdir, *arguments, module=module),
        env=tiny.environment,
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tiny.config.parent,
    )


def run_here(tiny, workdir, *arguments, module="train"):
    """Like `run`, but in this process, which saves the seconds of starting another."""
    main = importlib.import_module(f"jax_resnet.{module}").main
    words = command(tiny, workdir, *arguments, module=module)[3:]
    settings = {name: getattr(jax.config, name) for name in JAX_SETTINGS}
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, unchecked():
        patch.setenv("XDG_CACHE_HOME", tiny.environment["XDG_CACHE_HOME"])
        patch.chdir(tiny.config.parent)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(words)
        except (UserError, OSError) as error:
            code = getattr(error, "exit_code", 2)
            err.write(f"error: {' '.join(str(error).split())}\n")
        finally:
            for name, value in settings.items():
                jax.config.update(name, value)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def start(tiny, workdir, *arguments):
    return subprocess.Popen(
        command(tiny, workdir, *arguments),
        env=tiny.environment,
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
    latest = store.select(workdir, "latest")
    return latest.arrays("model") | latest.arrays("training")


def assert_same_run(workdir, reference):
    assert without_times(workdir) == without_times(reference)
    assert log_without_times(workdir) == log_without_times(reference)
    expected = final_arrays(reference)
    found = final_arrays(workdir)
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def assert_checkpoints_sound(workdir):
    """Whatever has the name of a step is complete, and what was saved."""
    for step in store.saved_steps(workdir):
        sound = store.select(workdir, str(step))
        for name in store.TREES:
            sound.arrays(name)


def set_aside_damaged(workdir):
    return list(store.set_aside(workdir, store.find_damaged(workdir)))


def wait_for(process, pattern):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return line
    raise AssertionError("".join(lines))


def interrupted(tiny, workdir, *arguments):
    """A run that was stopped in its second epoch."""
    process = start(tiny, workdir, "--config.train.steps_per_call=1", *arguments)
    wait_for(process, "epoch 1/3")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143
    return workdir
