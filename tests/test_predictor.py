import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import UNUSUAL, jax_settings_restored, unchecked
from format_fixtures import make_predictor, random_images
from scipy.special import softmax

from jax_resnet.model import resnet, weights
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError


@pytest.fixture(scope="module")
def predictor():
    return Predictor(make_predictor().stored, batch_size=3)


@pytest.fixture(scope="module")
def images(predictor):
    return random_images(predictor)


@pytest.mark.slow
def test_logits_are_the_networks(predictor, images):
    graphdef, params, batch_stats = weights.split(
        resnet.initialize(jax.random.key(0), **predictor.metadata.model)
    )
    assert set(params) == set(predictor.params)
    assert set(batch_stats) == set(predictor.batch_stats)
    network = weights.merge(graphdef, predictor.params, predictor.batch_stats)
    normalized = (images / 255 - predictor.info.mean) / predictor.info.std
    expected = jax.jit(lambda x: network(x))(jnp.asarray(normalized, jnp.float32))
    np.testing.assert_allclose(predictor.logits(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_predict_and_explain_agree_with_the_logits(predictor, images):
    logits = predictor.logits(images)
    expected = softmax(logits.astype(np.float64) / 1.7, axis=1)
    np.testing.assert_allclose(predictor.predict(images), expected, rtol=1e-5)
    probabilities, maps = predictor.explain(images)
    assert maps.shape == (7, 2, 2, 3)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4)
    bias = predictor.params["head.bias"]
    np.testing.assert_allclose(maps.mean((1, 2)) + bias, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_it_computes_the_same_with_other_settings_of_jax(predictor, images):
    with jax_settings_restored(UNUSUAL), unchecked():
        found = Predictor(predictor.stored, batch_size=3).predict(images)
    expected = predictor.predict(images)
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    with jax_settings_restored({"jax_enable_x64": True}):
        found = jax.jit(predictor.probabilities)(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_opening_a_model_compiles_nothing(predictor, images):
    compiled = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        fresh = Predictor(predictor.stored, batch_size=2)
        assert compiled == []
        fresh.explain(images)
        assert len(compiled) == 1
    finally:
        jax.monitoring.clear_event_listeners()


def test_no_images_are_no_logits(predictor, images):
    assert predictor.logits(images[:0]).shape == (0, 3)


def test_jax_arrays_are_images(predictor, images):
    found = predictor.predict(jnp.asarray(images))
    np.testing.assert_array_equal(found, predictor.predict(images))


def refusal(predictor, images):
    with unchecked(), pytest.raises(UserError) as error:
        predictor.predict(images)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x / np.float32(255), "are float32.* as by "),
        (lambda x: jnp.asarray(x).astype(jnp.float32), "are float32.* as by "),
        (lambda x: x.astype(int), "are int64.* as by "),
        (lambda x: x[0], "missing, add one: "),
        (lambda x: x.transpose(0, 3, 1, 2), "channels come last, as by "),
        (list, "are a list: give "),
    ],
)
def test_a_refusal_has_the_remedy(predictor, images, change, message):
    given = change(images)
    text = refusal(predictor, given)
    assert re.search(message, text)
    remedy = re.search(rf"{message}(.*)", text)[1]
    repaired = eval(remedy, {"images": given, "np": np})
    expected = images[:1] if "missing" in text else images
    np.testing.assert_array_equal(repaired, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.full((2, 8, 8, 3), -1.5), "neither scaled nor normalised"),
        (np.zeros((2, 8, 8, 3), bool), "are bool: give uint8"),
        (np.zeros((2, 8, 8), np.uint8), "height, width and channels of each"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"3 channels, .* convert\('RGB'\)"),
        (np.zeros((2, 9, 8, 3), np.uint8), r"resize to 8x8, .* resize\(\(8, 8\)\)"),
        ("apple.png", r"are of type str: .* read_image\(images, \(8, 8, 3\)\)"),
        (None, r"are of type NoneType: .* np.asarray\(images\)"),
    ],
)
def test_refusals(predictor, given, message):
    assert re.search(message, refusal(predictor, given))


def test_grey_images_without_a_channel():
    text = refusal(make_predictor(channels=1), np.zeros((2, 8, 8), np.uint8))
    assert "the channel is missing, add it: images[..., None]" in text


def test_predict_under_jit_names_the_function_for_it(predictor, images):
    with unchecked(), pytest.raises(UserError, match=r"call probabilities\(images\)"):
        jax.jit(predictor.predict)(images)


@pytest.mark.parametrize(
    ("function", "change", "message"),
    [
        ("probabilities", lambda x: x / np.float32(255), "float32: give uint8"),
        ("probabilities", lambda x: x.transpose(0, 3, 1, 2), "channels come last"),
        ("forward", lambda x: x, "uint8: give normalised floats"),
    ],
)
def test_refusals_under_jit(predictor, images, function, change, message):
    with unchecked(), pytest.raises(UserError, match=message):
        jax.jit(getattr(predictor, function))(change(images))


def test_arrays_of_another_model_are_refused(predictor):
    arrays = dict(predictor.stored.arrays)
    arrays["state.params.head.kernel"] = arrays["state.params.head.kernel"][:, :2]
    with pytest.raises(UserError, match=r"another model.*head\.kernel"):
        Predictor(dataclasses.replace(predictor.stored, arrays=arrays))
