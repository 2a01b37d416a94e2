"""The composition of augmentations, and what it refuses."""

import inspect
import math
from inspect import Parameter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augment_fixtures import (
    CONSTANTS,
    LEAST_P,
    SETTINGS,
    TRANSFORMS,
    keys,
    one_after_the_other,
    pictures,
)
from scipy import stats

from jax_resnet import config
from jax_resnet.augment import compose
from jax_resnet.augment.color import normalize
from jax_resnet.runtime.errors import UserError


@pytest.fixture(scope="module")
def reference():
    return jax.jit(compose.build(TRANSFORMS, SETTINGS, **CONSTANTS))


@pytest.mark.slow
def test_reference_is_its_transforms_one_after_the_other(reference):
    images = pictures(8)
    expected = jax.jit(jax.vmap(one_after_the_other(TRANSFORMS)))(keys(8), images)
    np.testing.assert_allclose(reference(keys(8), images), expected, atol=1e-4)


@pytest.mark.slow
def test_neighbouring_maps_are_one_gather():
    transforms = ("random_rotation", "random_crop", "random_flip", "random_rotation")
    transforms += ("normalize",)
    images = pictures(64, 18, 23)
    apply = compose.build(transforms, SETTINGS, **CONSTANTS)
    found = jax.jit(apply)(keys(64), images)
    expected = jax.jit(jax.vmap(one_after_the_other(transforms)))(keys(64), images)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    text = str(jax.make_jaxpr(apply)(keys(64), images))
    assert text.count("u8[64,18,23,3] = gather") == 1


@pytest.mark.slow
def test_an_image_depends_on_its_own_key_alone(reference):
    images = pictures(8)
    found = reference(keys(8), images)
    is_fifth = jnp.arange(8) == 5
    others = jnp.where(is_fifth.reshape(-1, 1, 1, 1), images, 255 - images)
    other_keys = jnp.where(is_fifth, keys(8), keys(8, seed=1))
    np.testing.assert_array_equal(reference(other_keys, others)[5], found[5])
    assert not np.array_equal(reference(other_keys, images)[4], found[4])
    # The same picture eight times is augmented in eight ways.
    same = reference(keys(8), jnp.broadcast_to(images[:1], images.shape))
    assert len(np.unique(np.asarray(same).reshape(8, -1), axis=0)) == 8


def test_alternating_flip_shows_both_ways_in_turn():
    images = pictures(400, 8, 8)
    apply = jax.jit(compose.build(["alternating_flip", "normalize"], {}, **CONSTANTS))
    as_is = np.asarray(normalize(images, **CONSTANTS))
    first = None
    for epoch in range(3):
        # With other keys, which do not matter.
        found = np.asarray(apply(keys(400, seed=epoch), images, epoch))
        mirrored = np.isclose(found, as_is[:, :, ::-1], atol=1e-5).all((1, 2, 3))
        np.testing.assert_allclose(found[~mirrored], as_is[~mirrored], atol=1e-5)
        first = mirrored if first is None else first
        np.testing.assert_array_equal(mirrored, first ^ bool(epoch % 2))
    assert stats.binomtest(int(first.sum()), 400, 0.5).pvalue > LEAST_P


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (["random_crp", "normalize"], "did you mean 'random_crop'"),
        (["normalize", "normalize"], "exactly once, not 2"),
        (["normalize", "color_jitter"], "'color_jitter' must come before"),
        (["cutout", "normalize"], "'cutout' must come after"),
    ],
)
def test_bad_transforms(transforms, message):
    with pytest.raises(UserError, match=message):
        compose.build(transforms, SETTINGS, **CONSTANTS)


@pytest.mark.parametrize("name", ["color_jitter", "trivial_augment", "rand_augment"])
def test_colours_of_other_channels_are_refused(name):
    four = dict.fromkeys(CONSTANTS, (0.5,) * 4)
    compose.build(["random_crop", "normalize", "cutout"], SETTINGS, **four)
    with pytest.raises(UserError, match=f"{name!r} .* have 4 channels: leave it out"):
        compose.build([name, "normalize"], SETTINGS, **four)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("random_crop", {}, "random_crop.padding is missing"),
        ("random_crop", {"pad": 4}, "no setting 'pad'; did you mean 'padding'"),
        ("random_flip", {"probability": math.nan}, "must be a finite number"),
        ("random_flip", {"probability": "0.5"}, "must be of type float"),
        ("random_erasing", {"probability": 0.5, "area": (0.1, 2)}, "at most 1"),
        ("rand_augment", {"bins": 5}, "magnitude must be less than bins, 5, not 9"),
        ("cutuot", {"size": 1}, "unknown augmentation 'cutuot'; did you mean 'cutout'"),
    ],
)
def test_bad_settings(name, settings, message):
    # Also of augmentations that are not applied.
    with pytest.raises(UserError, match=message) as error:
        compose.build(["normalize"], {name: settings}, **CONSTANTS)
    assert "\n" not in str(error.value)


def test_every_setting_has_its_range():
    for name, function in compose._FUNCTIONS.items():
        parameters = inspect.signature(function).parameters.values()
        keywords = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
        fields = config.AUGMENTATIONS[name]
        assert fields.keys() == keywords.keys()
        for setting, field in fields.items():
            default = keywords[setting].default
            assert field.default == (None if default is Parameter.empty else default)


def test_whole_numbers_and_lists_are_as_good():
    erasing = {"probability": 1, "area": [0.02, 0.33], "aspect": [1, 2]}
    settings = {"random_rotation": {"degrees": 15}, "random_erasing": erasing}
    apply = compose.build(
        ["random_rotation", "normalize", "random_erasing"], settings, **CONSTANTS
    )
    assert jax.eval_shape(apply, keys(2), pictures(2)).shape == (2, 32, 32, 3)


def brighten(key, image, *, by=0.0):
    return image + by * jax.random.uniform(key)


def drop_a_row(key, image):
    return image[1:]


def decide(key, image):
    return image if image.mean() > 0 else -image


@pytest.mark.slow
def test_a_function_of_ones_own_is_applied_in_its_place():
    images = pictures(4)
    seen = []

    def watch(key, image):
        seen.append(image)
        return image + 1

    def apply(*transforms, **settings):
        build = compose.build(transforms, settings, **CONSTANTS)
        return jax.jit(build)(keys(4), images)

    found = apply(brighten, "normalize", watch, brighten={"by": 90.0})
    assert (seen[0].shape, seen[0].dtype) == ((32, 32, 3), jnp.float32)
    draws = jax.vmap(lambda key: jax.random.uniform(jax.random.split(key, 3)[0]))
    by = 90 * draws(keys(4)).reshape(4, 1, 1, 1)
    levels = (images.astype(jnp.float32) + by).clip(0, 255)
    assert (levels == 255).any()
    np.testing.assert_allclose(found, normalize(levels, **CONSTANTS) + 1, atol=1e-5)
    # Those that only move pixels are one lookup on either side of it.
    flip = {"random_flip": {"probability": 1.0}}
    moved = apply("random_flip", brighten, "random_flip", "normalize", **flip)
    np.testing.assert_allclose(moved, normalize(images, **CONSTANTS), atol=1e-5)


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        (drop_a_row, {}, r"'drop_a_row' returns the shape \(31, 32, 3\)"),
        (decide, {}, "'decide' fails: TracerBoolConversionError: "),
        (brighten, {"brighten": {"strength": 1}}, "augment.brighten: .*'strength'"),
        (normalize, {}, "'normalize' has a name of jax_resnet"),
        (lambda key, image: image, {}, "define <function .* with def"),
    ],
)
def test_a_function_that_does_not_fit(function, settings, message):
    with pytest.raises(UserError, match=message) as error:
        apply = compose.build([function, "normalize"], settings, **CONSTANTS)
        jax.eval_shape(apply, keys(2), pictures(2))
    assert "\n" not in str(error.value)
