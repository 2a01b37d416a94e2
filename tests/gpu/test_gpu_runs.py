"""Whole runs on a GPU: stopped by a signal and resumed, and several on one card."""

import json
import re
import signal
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from card_fixtures import (
    DRY,
    FIELDS,
    KIND,
    assert_near,
    assert_same_change,
    settings_of,
    train_on,
)
from command_line import (
    assert_checkpoints_sound,
    final_arrays,
    records,
    run,
    start,
    unchecked,
    wait_for,
)

from jax_resnet import train
from jax_resnet.checkpoint import store
from jax_resnet.checkpoint.metadata import RunMetadata

pytestmark = pytest.mark.gpu

# Long enough for a signal to come in the middle: some seconds of calls.
IMAGES, EPOCHS = (1280, 4) if DRY else (4096, 20)
ON_CARD = (f"--config.train.device={KIND}", "--config.mesh.devices=1")
LONG_RUN = (
    *FIELDS,
    *ON_CARD,
    f"--config.data.train_split=train[:{IMAGES}]",
    f"--config.train.epochs={EPOCHS}",
    "--config.model.dtype=auto",
)


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


@pytest.fixture(scope="module")
def stopped(tiny, prepared, tmp_path_factory):
    """A run that got a signal while it was training, and how it ended."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    process = start(tiny, workdir, *LONG_RUN)
    try:
        wait_for(process, f"epoch 1/{EPOCHS}")
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        output, _ = process.communicate(timeout=60)
        seconds = time.monotonic() - started
    finally:
        process.kill()
        process.wait()
    return SimpleNamespace(
        workdir=workdir, output=output, seconds=seconds, code=process.returncode
    )


def test_a_signal_in_training_saves_and_stops(stopped):
    print(f"out after {stopped.seconds:.1f} s")
    assert stopped.code == 143, stopped.output
    assert "SIGTERM: saving and stopping" in stopped.output
    assert "the same command resumes" in stopped.output
    assert stopped.seconds < 10
    assert_checkpoints_sound(stopped.workdir)


def test_the_fastest_type_is_chosen_and_recorded(stopped, card):
    latest = store.select(stopped.workdir, "latest")
    metadata = RunMetadata.from_json(latest.metadata)
    expected = "float32"
    if card.first.platform == "gpu" and float(card.first.compute_capability) >= 8:
        expected = "bfloat16"
    assert metadata.model["dtype"] == metadata.config["model"]["dtype"] == expected
    written = json.loads((stopped.workdir / "config.json").read_text())
    assert written["model"]["dtype"] == expected


def test_the_same_command_resumes_to_the_end(stopped, tiny):
    steps = EPOCHS * (IMAGES // 32)
    saved = store.select(stopped.workdir, "latest").step
    print(f"saved at step {saved} of {steps}")
    assert 0 < saved < steps
    result = run(tiny, stopped.workdir, *LONG_RUN)
    assert result.returncode == 0, result.stderr
    assert f"resuming at step {saved}" in result.stdout
    assert re.search(r"^done: last epoch", result.stdout, flags=re.M)
    assert [record["epoch"] for record in records(stopped.workdir)] == [
        *range(1, EPOCHS + 1)
    ]
    assert summary(stopped.workdir)["complete"]
    assert store.select(stopped.workdir, "latest").step == steps


def test_runs_of_two_seeds_take_turns_and_are_what_each_is_alone(
    tiny, card, made_on_card, tmp_path, capsys
):
    workdir = tmp_path / "both"
    words = ["--config", str(tiny), "--workdir", str(workdir), *FIELDS, *ON_CARD]
    with unchecked():
        assert train.main([*words, "--seeds", "0,1"]) == 0
    lines = re.findall(r"^seed (\d): epoch", capsys.readouterr().out, flags=re.M)
    assert lines == ["0", "0", "1", "1"]
    other = train_on(card, settings_of(tiny, "--config.seed=1"), tmp_path / "1")
    for seed, alone in enumerate((made_on_card, other)):
        together = workdir / f"seed-{seed}"
        losses = [
            np.array([[r["train_loss"], r["val_loss"]] for r in records(folder)])
            for folder in (together, alone.workdir)
        ]
        assert_near(*losses, 1e-3, f"losses of seed {seed}")
        arrays = [final_arrays(folder) for folder in (together, alone.workdir)]
        zeros = jax.tree.map(np.zeros_like, arrays[1])
        assert_same_change(*arrays, zeros, 1e-2, f"arrays of seed {seed}")
    assert summary(workdir / "seed-0")["last"] != summary(workdir / "seed-1")["last"]
    assert json.loads((workdir / "seeds.json").read_text())["complete"]
