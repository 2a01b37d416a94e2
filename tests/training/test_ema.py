"""The average of the weights: its formula, its statistics, and runs that keep one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import (
    assert_one_line,
    assert_same_run,
    final_arrays,
    interrupted,
    records,
    run,
)
from parallel_fixtures import BATCH, INFO, RECIPE, SETTINGS, Steps, batch_of

from jax_resnet.augment import compose
from jax_resnet.checkpoint import store
from jax_resnet.model import weights
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.ema import Ema

EMA = ("--config.ema.decay=0.8", "--config.ema.statistics_steps=3")


def test_update_against_its_definition():
    rng = np.random.default_rng(0)
    expected = rng.standard_normal(5)
    found = {"w": jnp.asarray(expected, jnp.float32)}
    for step in range(40):
        params = rng.standard_normal(5)
        decay = min(0.7, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * params
        new = {"w": jnp.asarray(params, jnp.float32)}
        found = Ema(0.7).update(weights.Weights(found, {}), new, jnp.int32(step)).params
    np.testing.assert_allclose(found["w"], expected, atol=1e-6)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_bad_decay(decay):
    with pytest.raises(UserError, match=r"ema.decay must be in \[0, 1\)"):
        Ema(decay)


def test_bad_number_of_statistics_steps():
    with pytest.raises(UserError, match=r"ema.statistics_steps must be at least 1"):
        Ema(0.0, statistics_steps=0)


@pytest.fixture(scope="module")
def one():
    return Steps(1, ema_decay=0.5)


def after(steps, count):
    at = steps.state
    for _ in range(count):
        at, _ = steps(at)
    return at


def test_steps_move_the_average_and_nothing_else(one):
    at, plain = after(one, 3), after(Steps(1), 3)
    for name, value in plain.params.items():
        np.testing.assert_array_equal(at.params[name], value)
    expected = one.state.params
    follower = one.state
    for step in range(3):
        follower, _ = one(follower)
        before = weights.Weights(expected, {})
        expected = Ema(0.5).update(before, follower.params, jnp.int32(step)).params
    for name, value in expected.items():
        np.testing.assert_allclose(at.average.params[name], value, atol=1e-6)
    for name, value in one.state.batch_stats.items():
        np.testing.assert_array_equal(at.average.batch_stats[name], value)


def statistics(steps, at, first):
    compiled = steps.compiled
    at = steps.devices.place(at)
    carry = compiled.statistics_carry(at, first)
    (*_, chunk) = steps.pipeline.train_chunks(0, first)
    arrays = (*chunk.arrays, at.average.params)
    total, last = compiled.statistics(carry, 2, *arrays)
    assert int(last) == first + 2
    return jax.device_get(compiled.with_statistics(at, total)).average.batch_stats


def test_statistics_are_the_means_over_batches(one):
    at = after(one, 3)
    found = statistics(one, at, 3)
    transform = compose.build(RECIPE, SETTINGS, mean=INFO.mean, std=INFO.std)
    expected = {}
    for step in (3, 4):
        images, _, keys = batch_of(step)
        at_rest = jax.tree.map(jnp.zeros_like, at.average.batch_stats)
        network = weights.merge(one.graphdef, at.average.params, at_rest)
        seen = transform(keys, images)
        network(seen, train=True)
        for name, value in weights.split(network)[2].items():
            expected[name] = expected.get(name, 0) + value / 0.1 / 2
        # The first layer's, from the images alone.
        if step == 3:
            outputs = network.stem.conv(seen)
            stem = (
                np.asarray(outputs).mean((0, 1, 2)),
                np.asarray(outputs).var((0, 1, 2)),
            )
            own = {
                k: np.asarray(network.stem.norm.__dict__[k][...])
                for k in ("mean", "var")
            }
            np.testing.assert_allclose(own["mean"] / 0.1, stem[0], atol=1e-5)
            np.testing.assert_allclose(own["var"] / 0.1, stem[1], rtol=1e-4)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)


def test_statistics_do_not_depend_on_devices_or_placement(one):
    at = after(one, 3)
    expected = statistics(one, at, 3)
    others = Steps(4, ema_decay=0.5, streamed=True)
    for name, value in statistics(others, at, 3).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)
    assert BATCH % 4 == 0


@pytest.fixture(scope="module")
def averaged(tiny, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("average") / "run"
    result = run(tiny, workdir, *EMA)
    assert result.returncode == 0, result.stderr
    return workdir


def test_the_average_is_what_is_evaluated_and_saved(tiny, averaged, finished):
    latest = store.select(averaged, "latest")
    model, training = latest.arrays("model"), latest.arrays("training")
    weights = {n for n in model if n.startswith("state.params.")}
    assert weights
    for name in weights:
        own = name.replace("state.", "state.average.", 1)
        np.testing.assert_array_equal(training[own], model[name])
        # Training itself goes on as without an average.
        np.testing.assert_array_equal(training[name], final_arrays(finished)[name])
    assert any((training[name] != model[name]).any() for name in weights)
    predictor = Predictor.open(averaged, "latest")
    for name, value in predictor.params.items():
        np.testing.assert_array_equal(value, model[f"state.params.{name}"])
    result = run(
        tiny,
        averaged,
        "--checkpoint",
        "latest",
        "--split",
        "test[:100]",
        module="evaluate",
    )
    assert result.returncode == 0, result.stderr
    assert f"{100 * records(averaged)[-1]['val_top1']:.2f} %" in result.stdout
    assert (
        "| evaluated | an average of the weights, decay 0.8 |"
        in (averaged / "log.md").read_text()
    )


def test_a_run_with_an_average_resumes_to_the_same_bits(tiny, averaged, tmp_path):
    workdir = interrupted(tiny, tmp_path / "run", *EMA)
    latest = store.select(workdir, "latest")
    if latest.metrics is None:  # else it was stopped as an epoch ended
        # The average has no statistics yet: the model is what was trained.
        training = latest.arrays("training")
        for name, value in latest.arrays("model").items():
            np.testing.assert_array_equal(value, training[name])
    refused = run(tiny, workdir, "--accept-changes")  # without an average
    assert_one_line(refused, r"does not fit the changed config \(ema.decay was 0.8")
    result = run(tiny, workdir, *EMA)
    assert result.returncode == 0, result.stderr
    assert "resuming at step" in result.stdout
    assert_same_run(workdir, averaged)
