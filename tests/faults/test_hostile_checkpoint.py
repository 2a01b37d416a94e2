"""Checkpoints that are meant to break things: refused in one line, and never run."""

import functools
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import BYTES, CUTS, examples, refused, spliced

from jax_resnet.checkpoint import store
from jax_resnet.checkpoint.store import Checkpoint


def write(path, content):
    (path / "_CHECKPOINT_METADATA").write_bytes(content)


@pytest.fixture
def step(finished, tmp_path):
    """The directory of a step that may be changed."""
    return shutil.copytree(
        store.directory(finished) / "24", tmp_path / "checkpoints" / "24"
    )


def read_as_json(path):
    text = (path / "_CHECKPOINT_METADATA").read_text()
    return types.SimpleNamespace(custom_metadata=json.loads(text)["custom_metadata"])


@pytest.fixture
def reader(monkeypatch):
    """Chooses what reads metadata: orbax, or for most of ten numbers the quicker."""
    orbax = store.ocp.checkpointables_metadata

    def choose(number):
        chosen = read_as_json if number else orbax
        monkeypatch.setattr(store.ocp, "checkpointables_metadata", chosen)

    return choose


def test_bytes_in_place_of_metadata(step, many, tally, reader):
    pristine = (step / "_CHECKPOINT_METADATA").read_bytes()
    expected = Checkpoint.open(step).metadata
    faults = tally("random bytes in the metadata of a checkpoint")

    @examples(many(60, 2000))
    @given(st.binary() | BYTES | CUTS, st.integers(0, 9))
    def check(content, number):
        if isinstance(content, list):
            content = spliced(pristine, content)
        faults.injected()
        reader(number)
        write(step, content)
        opened = refused(Checkpoint.open, step)
        if opened is not None:  # what the digest does not cover says nothing
            assert opened.metadata == expected
        faults.survived()

    check()


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


def test_loading_executes_nothing(tiny, finished):
    result = subprocess.run(
        [sys.executable, "-c", WATCH, str(finished)],
        env=tiny[1],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = map(set, json.loads(result.stdout))
    assert "open" in first & second  # events are seen
    assert not first & {*PROCESSES, "pickle.find_class"}
    # The first time, libraries import what they need late; then nothing is left.
    assert not second & {*PROCESSES, *CODE, "pickle.find_class"}


class Canary:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (str(self._path),)


def test_planted_pickles_are_not_loaded(step, tmp_path, many, tally):
    path = tmp_path / "canary"
    array = io.BytesIO()
    np.save(array, np.array([Canary(path)], object), allow_pickle=True)
    payloads = [pickle.dumps(Canary(path)), array.getvalue()]
    for payload, load in zip(
        payloads,
        (pickle.load, functools.partial(np.load, allow_pickle=True)),
        strict=True,
    ):
        load(io.BytesIO(payload))
        path.rmdir()  # it would be there
    expected = Checkpoint.open(step).arrays("model")
    faults = tally("a pickle in place of a checkpoint's file")
    files = sorted(p for p in step.rglob("*") if p.is_file() and p.suffix != ".json")
    cases = [(file, payload) for file in files for payload in payloads]
    for file, payload in cases[:: many(11, 1)]:
        before = file.read_bytes()
        file.write_bytes(payload)
        faults.injected()
        opened = refused(Checkpoint.open, step)
        arrays = opened and refused(opened.arrays, "model")
        if arrays is not None:  # from a file that is not read
            for name, array in expected.items():
                np.testing.assert_array_equal(arrays[name], array)
        assert not path.exists()
        faults.survived()
        file.write_bytes(before)
