import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from jax_resnet.data import cache
from jax_resnet.runtime.files import cache_folder

ARRAYS = {
    "images": np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8),
    "labels": np.arange(50, dtype=np.int32),
}


class Maker:
    """Counts how often the arrays are made."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return ARRAYS


def load(path, fingerprint="a"):
    make = Maker()
    arrays = cache.load_or_make(path, fingerprint, make)
    assert set(arrays) == set(ARRAYS)
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(array, ARRAYS[name])
    return make.calls


def test_made_once(tmp_path, caplog):
    path = tmp_path / "folder" / "one.arrays"
    assert cache.load(path, "a") is None
    assert [load(path), load(path)] == [1, 0]
    assert [file.name for file in path.parent.iterdir()] == ["one.arrays"]
    assert not caplog.records


def test_another_source_makes_it_again(tmp_path, caplog):
    path = tmp_path / "one.arrays"
    assert [load(path, "a"), load(path, "b"), load(path, "b")] == [1, 1, 0]
    assert "source has changed" in caplog.text
    assert len(caplog.records) == 1


def test_no_flipped_bit_gives_other_arrays(tmp_path):
    path = tmp_path / "one.arrays"
    load(path)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    positions = [*range(0, 400, 3), *rng.integers(0, len(good), 150)]
    positions += range(len(good) - 400, len(good), 3)
    remade = 0
    for position in positions:
        damaged = bytearray(good)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        remade += load(path)  # compares the arrays
    assert remade > 0.99 * len(positions)  # not the case of a hexadecimal digit


@pytest.mark.parametrize("length", [0, 1, 100, 5000, -1])
def test_a_truncated_file_is_made_again(tmp_path, length, caplog):
    path = tmp_path / "one.arrays"
    load(path)
    path.write_bytes(path.read_bytes()[:length])
    assert [load(path), load(path)] == [1, 0]
    assert len(caplog.records) == 1


def test_no_folder_to_write_to(tmp_path):
    (tmp_path / "file").write_text("no folder")
    path = tmp_path / "file" / "one.arrays"
    assert [load(path), load(path)] == [1, 1]


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    # A limit on the size of files fails as a full disk does: in the middle.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        assert load(tmp_path / "one.arrays") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
    assert [load(tmp_path / "one.arrays"), load(tmp_path / "one.arrays")] == [1, 0]


def test_what_the_maker_raises_is_raised(tmp_path):
    def fail():
        raise LookupError("no data")

    with pytest.raises(LookupError):
        cache.load_or_make(tmp_path / "one.arrays", "a", fail)
    assert list(tmp_path.iterdir()) == []


def test_default_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("JAX_RESNET_CACHE", raising=False)
    assert str(cache_folder()) == "/home/of/someone/.cache/jax_resnet"
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert str(cache_folder()) == "/cache/jax_resnet"
    monkeypatch.setenv("JAX_RESNET_CACHE", "/own")
    assert str(cache_folder()) == "/own"


MAKER = """
import sys, time
from pathlib import Path
import numpy as np
from jax_resnet.data import cache

def make():
    with Path(sys.argv[2]).open("a") as made:
        made.write("made\\n")
    time.sleep(1)
    return {"a": np.arange(5)}

print(cache.load_or_make(Path(sys.argv[1]), "x", make)["a"].sum())
"""


def test_of_several_processes_one_makes_it(tmp_path):
    arguments = [sys.executable, "-c", MAKER, tmp_path / "cache", tmp_path / "made"]
    processes = [
        subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [p.communicate()[0] for p in processes] == ["10\n"] * 3
    assert (tmp_path / "made").read_text() == "made\n"
