import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from metadata_fixtures import run_metadata

from jax_resnet.checkpoint.metadata import Architecture
from jax_resnet.model import resnet, weights
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError


@pytest.fixture(scope="module")
def arrays():
    _, params, batch_stats = weights.split(
        resnet.initialize(jax.random.key(3), **run_metadata().model)
    )
    return weights.to_arrays({"state": {"params": params, "batch_stats": batch_stats}})


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 4, 4, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def predictor(arrays):
    return Predictor(run_metadata(), arrays, step=9, batch_size=3)


def test_logits_are_the_models(predictor, images):
    network = resnet.initialize(jax.random.key(3), **run_metadata().model)
    expected = network(jnp.asarray((images / 255 - 0.4) / 0.2, jnp.float32))
    np.testing.assert_allclose(predictor.logits(images), expected, rtol=1e-4, atol=1e-5)


def test_probabilities_are_the_softmax_of_the_logits(predictor, images):
    exponentials = np.exp(predictor.logits(images).astype(np.float64))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predictor.predict(images), expected, rtol=1e-6)


def test_one_image_at_a_time_is_as_good(predictor, images):
    singly = np.concatenate([predictor.logits(image[None]) for image in images])
    np.testing.assert_allclose(predictor.logits(images), singly, rtol=1e-4, atol=1e-5)


def test_the_maps_of_a_class_make_its_logit(predictor, images, arrays):
    probabilities, maps = predictor.explain(images)
    assert maps.shape == (7, 1, 1, 3)
    bias = arrays["state.params.head.bias"]
    logits = maps.mean(axis=(1, 2)) + bias
    np.testing.assert_allclose(logits, predictor.logits(images), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probabilities, predictor.predict(images), rtol=1e-4)


def test_a_model_is_opened_without_compiling(arrays, images):
    compiled = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        predictor = Predictor(run_metadata(), arrays, step=9, batch_size=2)
        assert compiled == []
        predictor.explain(images)
        assert compiled == ["/jax/core/compile/backend_compile_duration"]
    finally:
        jax.monitoring.clear_event_listeners()


def test_no_images_have_no_logits(predictor, images):
    assert predictor.logits(images[:0]).shape == (0, 3)


def test_images_of_another_shape(predictor):
    with pytest.raises(UserError, match=r"\(4, 4, 1\), not \(5, 4, 1\)"):
        predictor.logits(np.zeros((2, 5, 4, 1), np.uint8))


@pytest.mark.parametrize("damage", ["missing", "shape", "dtype"])
def test_arrays_of_another_model(arrays, damage):
    name = "state.params.head.kernel"
    other = dict(arrays)
    kernel = other.pop(name)
    if damage == "shape":
        other[name] = kernel[:, :2]
    if damage == "dtype":
        other[name] = kernel.astype(np.float64)
    with pytest.raises(UserError, match=r"another model.*head\.kernel"):
        Predictor(run_metadata(), other, step=9)


@pytest.mark.parametrize("size", [{"depth": 2000}, {"width": 100}, {"depth": -4}])
def test_a_far_larger_model_is_refused_before_it_is_built(arrays, size, monkeypatch):
    metadata = run_metadata()
    architecture = Architecture(**{**metadata.model, **size})
    monkeypatch.setattr(resnet, "initialize", None)
    with pytest.raises(UserError, match=r"another model: depth .* and width"):
        Predictor(dataclasses.replace(metadata, model=architecture), arrays, step=9)
