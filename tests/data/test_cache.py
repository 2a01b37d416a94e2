import numpy as np

from jax_resnet.data import cache
from jax_resnet.runtime.paths import cache_folder

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)


def made(path, fingerprint="a"):
    """Whether loading has to make the arrays; checks them."""
    calls = []

    def make():
        calls.append(path)
        return {"images": IMAGES}

    arrays = cache.load_or_make(path, fingerprint, make)
    assert arrays["images"].dtype == np.uint8
    np.testing.assert_array_equal(arrays["images"], IMAGES)
    return bool(calls)


def test_made_once_from_each_source(tmp_path, caplog):
    path = tmp_path / "folder" / "one.npz"
    assert [made(path), made(path)] == [True, False]
    assert [file.name for file in path.parent.iterdir()] == ["one.npz"]
    assert not caplog.records
    assert [made(path, "b"), made(path, "b")] == [True, False]
    assert "source has changed" in caplog.text


def test_a_damaged_file_is_made_again(tmp_path):
    path = tmp_path / "one.npz"
    made(path)
    good = path.read_bytes()
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 1
    for content in (damaged, good[:-1], b""):
        path.write_bytes(content)
        assert [made(path), made(path)] == [True, False]


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    assert made(tmp_path / "file" / "one.npz")


def test_default_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/someone")
    for name in ("XDG_CACHE_HOME", "JAX_RESNET_CACHE"):
        monkeypatch.delenv(name, raising=False)
    assert str(cache_folder()) == "/home/of/someone/.cache/jax_resnet"
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert str(cache_folder()) == "/cache/jax_resnet"
    monkeypatch.setenv("JAX_RESNET_CACHE", "/own")
    assert str(cache_folder()) == "/own"
