"""Checkpoints that are meant to break things: refused in one line, and never run."""

import contextlib
import copy
import functools
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import BYTES, CUTS, SCALARS, examples, refused, spliced

from jax_resnet.checkpoint import store
from jax_resnet.checkpoint.digests import digest_json, write_manifest
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.checkpoint.model_folder import StoredModel
from jax_resnet.checkpoint.store import Checkpoint
from jax_resnet.predict import Predictor

# What JSON can say and Python cannot write.
TOKENS = {"@digits": "9" * 5000, "@deep": "[" * 100_000 + "]" * 100_000}
JSON_VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.sampled_from(
        [
            *(-1, 0, 1, 100, 2000, 10**9, 1.0, 1e308, "24", "8", "a\nb", [], {}, [[]]),
            *("x" * 100_000, list(range(1000)), *TOKENS),
            functools.reduce(lambda inner, _: [inner], range(300), 1),
            functools.reduce(lambda inner, _: {"model": inner}, range(900), {}),
        ]
    ),
)


ABSENT = (LookupError, TypeError, AttributeError)


def paths_in(value, path=()):
    """Every place in a JSON value."""
    children = []
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    return [path, *(p for k, v in children for p in paths_in(v, (*path, k)))]


def at(value, path):
    return functools.reduce(lambda inner, key: inner[key], path, value)


def mutated(value, changes):
    """With some places deleted, replaced, doubled or exchanged."""
    value = copy.deepcopy(value)
    for kind, path, other, new in changes:
        with contextlib.suppress(*ABSENT):  # an earlier change took it
            group, found = at(value, path[:-1]), at(value, path)
            if kind == "delete":
                del group[path[-1]]
            elif kind == "add":
                found.append(new) if isinstance(found, list) else found.update(new=new)
            elif kind == "exchange":
                taken = at(value, other)
                at(value, other[:-1])[other[-1]] = copy.deepcopy(found)
                group[path[-1]] = copy.deepcopy(taken)
            elif kind == "everywhere":
                for same in paths_in(value):
                    if same and same[-1] == path[-1]:
                        at(value, same[:-1])[same[-1]] = copy.deepcopy(new)
            else:
                group[path[-1]] = copy.deepcopy(new)
    return value


def forge(path, contents, manifest):
    """Writes a step's metadata as if it had been saved like this."""
    with contextlib.suppress(*ABSENT, RecursionError):
        custom = contents["custom_metadata"]
        custom["digests"].pop("metadata", None)
        custom["digests"]["metadata"] = digest_json(custom)
    text = json.dumps(contents)
    for token, meaning in TOKENS.items():
        text = text.replace(f'"{token}"', meaning)
    write(path, text.encode(), manifest)


def write(path, content, manifest):
    (path / "_CHECKPOINT_METADATA").write_bytes(content)
    (path / "manifest.json").unlink(missing_ok=True)
    if manifest:
        write_manifest(path)


@pytest.fixture
def step(finished, tmp_path):
    """The directory of a step that may be changed."""
    return shutil.copytree(
        store.directory(finished) / "24", tmp_path / "checkpoints" / "24"
    )


def read(path):
    opened = Checkpoint.open(path)
    return opened, RunMetadata.from_json(opened.metadata)


def build(opened, metadata):
    return Predictor(StoredModel(metadata, opened.arrays("model"), opened.step))


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


def test_forged_metadata(step, many, tally, reader):
    pristine = json.loads((step / "_CHECKPOINT_METADATA").read_text())
    places = st.sampled_from([p for p in paths_in(pristine) if p])
    kinds = st.sampled_from(["delete", "add", "exchange", "replace", "everywhere"])
    changes = st.lists(
        st.tuples(kinds, places, places, JSON_VALUES), min_size=1, max_size=3
    )
    faults = tally("forged metadata of a checkpoint")
    built = set()  # of models, each once: to build one takes a second

    @examples(many(100, 10_000))
    @given(changes, st.booleans(), st.integers(0, 9))
    def check(changes, manifest, number):
        faults.injected()
        reader(number)
        forge(step, mutated(pristine, changes), manifest or number)
        if found := refused(read, step):
            opened, metadata = found
            info = metadata.dataset
            model = (metadata.model, info.image_shape, info.mean, info.std)
            if (key := str((model, opened.metadata["digests"]))) not in built:
                built.add(key)
                if predictor := refused(build, opened, metadata):
                    image = np.zeros((1, *info.image_shape), np.uint8)
                    assert np.isfinite(predictor.logits(image)).all()
                    jax.clear_caches()
        faults.survived()

    check()


def test_bytes_in_place_of_metadata(step, many, tally, reader):
    pristine = (step / "_CHECKPOINT_METADATA").read_bytes()
    expected = Checkpoint.open(step).metadata
    faults = tally("random bytes in the metadata of a checkpoint")

    @examples(many(60, 2000))
    @given(st.binary() | BYTES | CUTS, st.booleans(), st.integers(0, 9))
    def check(content, manifest, number):
        if isinstance(content, list):
            content = spliced(pristine, content)
        faults.injected()
        reader(number)
        write(step, content, manifest or number)
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
    cases = [
        (file, payload, forged)
        for file in files
        for payload in payloads
        for forged in (0, 1)
    ]
    for file, payload, forged in cases[:: many(11, 1)]:
        before, manifest = file.read_bytes(), (step / "manifest.json").read_bytes()
        file.write_bytes(payload)
        if forged:
            write_manifest(step)
        faults.injected()
        opened = refused(Checkpoint.open, step)
        assert forged or opened is None
        arrays = opened and refused(opened.arrays, "model")
        if arrays is not None:  # from a file that is not read
            for name, array in expected.items():
                np.testing.assert_array_equal(arrays[name], array)
        assert not path.exists()
        faults.survived()
        file.write_bytes(before)
        (step / "manifest.json").write_bytes(manifest)
