import jax
import pytest

from jax_resnet.distributed import device
from jax_resnet.runtime.errors import UserError


def test_bad_devices(monkeypatch):
    with pytest.raises(UserError, match=r"--config.train.device must be .* not 'tpu'"):
        device.select("tpu")
    with pytest.raises(UserError, match="--device=gpu needs a device"):
        device.select("gpu", "--device")


def test_the_current_device_is_the_default():
    assert device.current() == jax.devices()[0]


def test_compilations_are_cached_where_they_can_be(tmp_path, restored):
    folder, file = tmp_path / "new" / "cache", tmp_path / "file"
    device.cache_compilations(str(folder), jax.devices()[0])
    assert jax.config.jax_compilation_cache_dir == str(folder)
    file.write_text("")
    device.cache_compilations(str(file), jax.devices()[0])
    assert jax.config.jax_compilation_cache_dir is None
