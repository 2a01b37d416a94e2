"""Whole runs on a GPU: stopped by a signal and resumed, and several on one card."""

import json
import signal
import time

import pytest
from card_fixtures import DRY, FIELDS, assert_same_result, settings_of, train_on
from command_line import (
    assert_checkpoints_sound,
    records,
    run,
    run_here,
    start,
    wait_for,
)

from jax_resnet.checkpoint import store
from jax_resnet.distributed import device

pytestmark = pytest.mark.gpu

# Long enough for a signal to come in the middle: some seconds of calls.
IMAGES, EPOCHS = (1280, 4) if DRY else (4096, 20)
ON_CARD = (*FIELDS, f"--config.train.device={'cpu' if DRY else 'gpu'}")
LONG_RUN = (
    *ON_CARD,
    f"--config.data.train_split=train[:{IMAGES}]",
    f"--config.train.epochs={EPOCHS}",
    "--config.model.dtype=auto",
)


def test_a_signal_saves_and_stops_and_the_same_command_resumes(tiny, card, tmp_path):
    workdir, steps = tmp_path / "run", EPOCHS * IMAGES // 32
    process = start(tiny, workdir, *LONG_RUN)
    try:
        wait_for(process, f"epoch 1/{EPOCHS}")
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert time.monotonic() - started < 10
    assert process.returncode == 143, output
    assert_checkpoints_sound(workdir)
    saved = store.select(workdir, "latest").step
    assert 0 < saved < steps
    written = json.loads((workdir / "config.json").read_text())
    assert written["model"]["dtype"] == device.fastest_dtype(card.first)
    result = run(tiny, workdir, *LONG_RUN)
    assert result.returncode == 0, result.stderr
    assert f"resuming at step {saved}" in result.stdout
    assert [r["epoch"] for r in records(workdir)] == [*range(1, EPOCHS + 1)]
    assert store.select(workdir, "latest").step == steps


def test_runs_of_two_seeds_are_what_each_is_alone(tiny, card, made_on_card, tmp_path):
    both = tmp_path / "both"
    result = run_here(tiny, both, *ON_CARD, "--seeds", "0,1")
    assert result.returncode == 0, result.stderr
    other = train_on(card, settings_of(tiny, "--config.seed=1"), tmp_path / "1")
    for seed, alone in enumerate((made_on_card, other)):
        assert_same_result(both / f"seed-{seed}", alone)
    assert records(both / "seed-0")[-1] != records(both / "seed-1")[-1]
