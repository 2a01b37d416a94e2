import logging
from unittest.mock import Mock

import jax
import pytest

from jax_resnet.distributed import device
from jax_resnet.runtime.errors import UserError


@pytest.fixture
def restored():
    """JAX's settings, put back after the test."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_platform_without_devices(monkeypatch):
    def local_devices(backend):
        raise AssertionError

    monkeypatch.setattr(jax, "local_devices", local_devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(UserError, match="JAX_PLATFORMS=cuda needs a device"):
        device.select("auto")


def test_the_current_device_is_the_default():
    assert device.current() == jax.devices()[0]


def test_compilations_are_cached_where_they_can_be(tmp_path, restored, caplog):
    caplog.set_level(logging.INFO)
    chosen = jax.devices()[0]
    device.cache_compilations(str(tmp_path / "new" / "cache"), chosen)
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "new" / "cache")
    assert not caplog.messages
    (tmp_path / "file").write_text("")
    device.cache_compilations(str(tmp_path / "file"), chosen)
    assert jax.config.jax_compilation_cache_dir is None
    assert "no cache of compiled programs" in caplog.text


@pytest.mark.parametrize(
    ("platform", "capability", "dtype"),
    [
        ("gpu", "9.0", "bfloat16"),
        ("gpu", "8.6", "bfloat16"),
        ("gpu", "10.0", "bfloat16"),
        ("gpu", "7.5", "float32"),
        ("cpu", None, "float32"),
    ],
)
def test_bfloat16_where_it_is_fast(platform, capability, dtype):
    chosen = Mock(spec=jax.Device, platform=platform)
    chosen.compute_capability = capability
    assert device.fastest_dtype(chosen) == dtype
