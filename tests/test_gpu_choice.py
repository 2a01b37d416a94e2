import gpu_choice
import jax
import pytest


@pytest.mark.parametrize("expression", ["", "not slow", "not gpu", "gpu or slow"])
def test_without_the_marker_alone_no_gpu_is_looked_for(expression, monkeypatch):
    def devices(kind):
        raise AssertionError(f"looked for a {kind}")

    monkeypatch.setattr(gpu_choice, "DRY", False)
    monkeypatch.setattr(jax, "devices", devices)
    before = jax.config.jax_platforms
    gpu_choice.prepare(expression)
    assert jax.config.jax_platforms == before
    assert gpu_choice.reason_to_skip(expression) == "only with -m gpu"


def test_a_machine_without_a_gpu_is_a_reason_to_skip(monkeypatch):
    def devices(kind):
        raise RuntimeError(f"Unknown backend:\n{kind}")

    monkeypatch.setattr(gpu_choice, "DRY", False)
    monkeypatch.setattr(jax, "devices", devices)
    found = gpu_choice.reason_to_skip("gpu")
    assert found == "JAX finds no GPU: Unknown backend: gpu"
