"""Checkpoints that are meant to break things: refused in one line, and never run."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from damages import GARBAGE, files_in, refused, splice

from jax_resnet.checkpoint import store
from jax_resnet.checkpoint.store import Checkpoint


@pytest.fixture
def step(finished, tmp_path):
    """The directory of a step that may be changed."""
    root = store.directory(finished)
    return shutil.copytree(root / "24", tmp_path / "checkpoints" / "24")


@pytest.mark.fault("random bytes in the metadata of a checkpoint", 20, 300)
def test_bytes_in_place_of_metadata(step, number, generator):
    expected = Checkpoint.open(step).metadata
    path = step / "_CHECKPOINT_METADATA"
    changed = splice(path.read_bytes(), generator)
    path.write_bytes(GARBAGE[number] if number < len(GARBAGE) else changed)
    opened = refused(Checkpoint.open, step)
    # Orbax does not read all of it.
    assert opened is None or opened.metadata == expected


WATCH = """
import json, sys
from pathlib import Path

events = []
sys.addaudithook(lambda event, _: events.append(event))

from jax_resnet.predict import Predictor

events.clear()
Predictor.open(Path(sys.argv[1]), "best")
first = sorted(set(events))
events.clear()
Predictor.open(Path(sys.argv[1]), "latest")
print(json.dumps([first, sorted(set(events))]))
"""
PROCESSES = {"os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen"}
CODE = {"compile", "exec", "import", "marshal.loads", "code.__new__", "ctypes.dlopen"}


@pytest.mark.slow
def test_loading_executes_nothing(tiny, finished):
    words = [sys.executable, "-c", WATCH, str(finished)]
    output = subprocess.check_output(words, env=tiny.environment, text=True)
    first, second = map(set, json.loads(output))
    assert "open" in first & second  # events are seen
    assert not first & {*PROCESSES, "pickle.find_class"}
    # The first time, libraries import what they need late.
    assert not second & {*PROCESSES, *CODE, "pickle.find_class"}


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (str(self._path),)


@pytest.mark.fault("a pickle in place of a checkpoint's file", 8, 60)
def test_planted_pickles_are_not_loaded(step, tmp_path, number, generator):
    path = tmp_path / "canary"
    payload = pickle.dumps(Canary(path))
    if number % 2:
        array = io.BytesIO()
        np.save(array, np.array([Canary(path)], object), allow_pickle=True)
        payload = array.getvalue()
        np.load(io.BytesIO(payload), allow_pickle=True)
    else:
        pickle.loads(payload)
    path.rmdir()  # a pickle that is loaded makes it
    files = [file for file in files_in(step) if file.suffix != ".json"]
    generator.choice(files).write_bytes(payload)
    opened = refused(Checkpoint.open, step)
    if opened is not None:
        refused(opened.verify)
    assert not path.exists()
