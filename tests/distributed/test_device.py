import jax
import pytest

from jax_resnet.distributed import device
from jax_resnet.runtime.errors import UserError


@pytest.mark.parametrize("kind", ["tpu", "gpu"])
def test_devices_that_are_not_there(kind):
    with pytest.raises(UserError, match=f"no device of kind '{kind}': check nvidia-sm"):
        device.select(kind)


def test_settings_of_jax_are_overridden_or_named(restored):
    jax.config.update("jax_platform_name", "gpu")
    assert device.find("cpu") == jax.devices()[0]
    jax.config.update("jax_error_checking_behavior_nan", "raise")
    with pytest.raises(UserError, match="JAX_ERROR_CHECKING_BEHAVIOR_NAN is 'raise'"):
        device.find("cpu")


@pytest.mark.slow
def test_flags_with_which_xla_would_end_the_process(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_nonsense=1")
    device.check_xla_flags.cache_clear()
    with pytest.raises(UserError, match="Unknown flag in XLA_FLAGS: --xla_nonsense=1"):
        device.find("auto")


def test_compilations_are_cached_where_they_can_be(tmp_path, restored):
    folder, file = tmp_path / "new" / "cache", tmp_path / "file"
    device.cache_compilations(str(folder), device.current())
    assert jax.config.jax_compilation_cache_dir == str(folder)
    device.cache_compilations("gs://bucket/cache", device.current())
    assert jax.config.jax_compilation_cache_dir == "gs://bucket/cache"
    file.write_text("")
    device.cache_compilations(str(file), device.current())
    assert jax.config.jax_compilation_cache_dir is None
