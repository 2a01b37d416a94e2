"""Checkpoints that are meant to break things: refused in one line, and never run."""

import os
import pickle
import shutil
import sys

import numpy as np
import pytest
from damages import GARBAGE, files_in, refused, splice

from jax_resnet.checkpoint import store
from jax_resnet.checkpoint.store import Checkpoint
from jax_resnet.predictor import Predictor

pytestmark = pytest.mark.slow  # for the run that the tests change

# Python's audit events of running code or other programs.
EXECUTION = {
    *("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen"),
    *("compile", "exec", "import", "marshal.loads", "code.__new__", "ctypes.dlopen"),
    "pickle.find_class",
}


@pytest.fixture
def step(finished, tmp_path):
    """The directory of a step that may be changed."""
    root = store.directory(finished)
    return shutil.copytree(root / "24", tmp_path / "checkpoints" / "24")


@pytest.mark.fault("random bytes in the metadata of a checkpoint", 10, 100)
def test_bytes_in_place_of_metadata(step, number, generator):
    expected = Checkpoint.open(step).metadata
    path = step / "_CHECKPOINT_METADATA"
    changed = splice(path.read_bytes(), generator)
    path.write_bytes(GARBAGE[number] if number < len(GARBAGE) else changed)
    opened = refused(Checkpoint.open, step)
    # Orbax does not read all of it.
    assert opened is None or opened.metadata == expected


def test_loading_executes_nothing(finished):
    Predictor.open(finished)  # libraries import what they need late
    events, watching = set(), True
    sys.addaudithook(lambda event, _: events.add(event) if watching else None)
    Predictor.open(finished)
    watching = False
    assert "open" in events
    assert not events & EXECUTION


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (str(self._path),)


@pytest.mark.fault("a pickle in place of a checkpoint's file", 4, 20)
def test_planted_pickles_are_not_loaded(step, tmp_path, number, generator):
    canary = tmp_path / "canary"
    payload = tmp_path / "payload"
    np.save(payload.open("wb"), np.array([Canary(canary)], object), allow_pickle=True)
    if number % 2:
        payload.write_bytes(pickle.dumps(Canary(canary)))
    np.load(payload, allow_pickle=True)
    canary.rmdir()  # a pickle that is loaded makes it
    files = [file for file in files_in(step) if file.suffix != ".json"]
    shutil.copy(payload, generator.choice(files))
    opened = refused(Checkpoint.open, step)
    if opened is not None:
        refused(opened.verify)
    assert not canary.exists()
