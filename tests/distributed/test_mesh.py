"""Several devices compute what one does; the CPU stands in for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import run_here
from process_fixtures import assert_close_runs
from step_fixtures import BATCH, RATE, SGD, images_and_labels, make_loss, network, scale

from jax_resnet.distributed.mesh import REPLICATED, DeviceMesh, split_along
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.step import StepOptions, make_train_step

COUNT = 4
OPTIONS = (
    "--config.data.train_split=train[:96]",
    "--config.train.epochs=2",
    "--config.train.accumulation=2",
    "--config.mix.mixup=1.0",
    "--config.model.stochastic_depth=0.5",
    # At this rate the rounding of float32 does not grow visibly.
    "--config.optimizer.learning_rate=0.001",
)


@pytest.mark.ci
def test_streaming_to_several_devices_has_the_result_of_one(
    tiny, tmp_path, monkeypatch
):
    one, several = tmp_path / "one", tmp_path / "several"
    assert run_here(tiny, one, *OPTIONS).returncode == 0
    two_steps = 2 * 32 * 32 * 32 * 3
    monkeypatch.setattr("jax_resnet.training.input_pipeline.CHUNK_BYTES", two_steps)
    devices = (f"--config.mesh.devices={COUNT}", "--config.data.placement=stream")
    result = run_here(tiny, several, *OPTIONS, *devices)
    assert result.returncode == 0, result.stderr
    assert f"training on {COUNT} x CPU" in result.stdout
    assert_close_runs(several, one)


@pytest.mark.slow
def test_statistics_of_each_device_alone():
    loss, (_, state) = make_loss(), network()
    images, labels = (array[:BATCH] for array in images_and_labels())
    options = StepOptions(axis_name="batch", average_statistics=True)
    step = make_train_step(loss, SGD, options)
    devices = DeviceMesh(tuple(jax.devices()[:COUNT]))
    layouts = [REPLICATED, REPLICATED, REPLICATED, split_along(2), REPLICATED]
    order = jnp.arange(BATCH, dtype=jnp.int32)[None, None]
    found, metrics = jax.jit(devices.parallel(step, layouts))(
        (state, RunningMetrics.zeros()), images, labels, order, jax.random.key(0)
    )
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    parts = [
        gradient(state.params, state.batch_stats, {"images": x, "labels": y})
        for x, y in zip(
            jnp.split(scale(images), COUNT), jnp.split(labels, COUNT), strict=True
        )
    ]
    (mean_loss, (_, batch_stats)), gradients = jax.tree.map(
        lambda *leaves: sum(leaves) / COUNT, *parts
    )
    np.testing.assert_allclose(metrics.mean_loss, mean_loss, rtol=1e-5)
    for name, expected in batch_stats.items():
        np.testing.assert_allclose(found.batch_stats[name], expected, atol=1e-5)
    for name, before in state.params.items():
        expected = before - RATE * gradients[name]
        np.testing.assert_allclose(found.params[name], expected, atol=1e-4)


def test_arrays_are_cut_or_copied():
    devices = DeviceMesh(tuple(jax.devices()))
    rows = np.arange(8)[::-1].repeat(2)
    (cut,) = devices.place_rows(rows, [np.arange(8, dtype=np.int32)])
    assert [shard.data.tolist() for shard in cut.addressable_shards] == [
        [r, r] for r in range(7, -1, -1)
    ]
    key, whole = devices.place((jax.random.key(3), jnp.arange(3)))
    assert [shard.data.tolist() for shard in whole.addressable_shards] == 8 * [
        [0, 1, 2]
    ]
    assert jax.random.key_data(key).tolist() == [0, 3]


def test_selection():
    assert DeviceMesh.select("cpu").count == 8
    assert DeviceMesh.select("cpu", 3).describe().startswith("3 x CPU")
    assert DeviceMesh.select("cpu", 1).axis_name is None
    with pytest.raises(UserError, match=r"mesh.devices is 9, and JAX finds 8"):
        DeviceMesh.select("cpu", 9)
