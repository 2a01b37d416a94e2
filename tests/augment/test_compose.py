"""Augmentations against Pillow, against their distributions, and composed."""

import functools
import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augment_fixtures import (
    CONSTANTS,
    DRAWS,
    LEAST_P,
    RECIPE,
    SETTINGS,
    assert_uniform,
    keys,
    one_after_the_other,
    over_keys,
    pictures,
)
from PIL import Image, ImageEnhance
from scipy import stats

from jax_resnet.augment import compose, erasing


def assert_equally_likely(values, expected):
    found, counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(found, expected)
    assert stats.chisquare(counts).pvalue > LEAST_P


# Against Pillow

ENHANCE = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ENHANCE)
def test_colour_is_within_a_level_of_pillows(name, channels):
    function = jax.jit(getattr(compose, name))
    factors = jnp.float32([0.8, 0.9, 0.99, 1, 1.01, 1.1, 1.2, 0.5, 1.5])
    for image, factor in zip(pictures(9, channels=channels), factors, strict=True):
        ours = np.asarray(function(image, factor)).round().astype(int)
        grey = channels == 1
        pillow = Image.fromarray(np.asarray(image[..., 0] if grey else image))
        expected = np.asarray(ENHANCE[name](pillow).enhance(float(factor)))
        assert np.abs(ours - expected.reshape(image.shape)).max() <= 1


def test_normalize():
    images = pictures(4)
    expected = (np.asarray(images) / 255 - CONSTANTS["mean"]) / CONSTANTS["std"]
    found = compose.normalize(images, **CONSTANTS)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    one = compose.normalize(images[0], **CONSTANTS)
    np.testing.assert_array_equal(one, found[0])


# Distributions


def test_crop_offsets_are_uniform():
    # A picture that says where each of its pixels was, padded by hand.
    image = np.arange(1, 65, dtype=np.int32).reshape(8, 8, 1)
    picture = jnp.asarray(image)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    crops = {
        padded[top : top + 8, left : left + 8].tobytes(): 9 * top + left
        for top, left in itertools.product(range(9), range(9))
        if top < 8 or left < 8  # all offsets show something of the picture
    }
    crops[padded[8:, 8:].tobytes()] = 80
    found = over_keys(lambda key: compose.random_crop(key, picture, padding=4))
    assert_equally_likely([crops[crop.tobytes()] for crop in found], range(81))


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
def test_flip(probability):
    image = np.arange(6).reshape(2, 3, 1)
    picture = jnp.asarray(image)
    found = over_keys(
        lambda key: compose.random_flip(key, picture, probability=probability)
    )
    flipped = (found == image[None, :, ::-1]).all((1, 2, 3))
    assert (found[~flipped] == image[None]).all()
    assert stats.binomtest(flipped.sum(), DRAWS, probability).pvalue > LEAST_P


def test_alternating_flip_shows_both_ways_in_turn():
    images = pictures(400)
    apply = compose.build(["alternating_flip", "normalize"], {}, **CONSTANTS)
    shown = [np.asarray(apply(keys(400), images, epoch)) for epoch in range(4)]
    plain = np.asarray(compose.normalize(images, **CONSTANTS))
    turned = [(one == plain[:, :, ::-1]).all((1, 2, 3)) for one in shown]
    for epoch, one in enumerate(shown):
        mirrored = turned[epoch][:, None, None, None]
        np.testing.assert_array_equal(one, np.where(mirrored, plain[:, :, ::-1], plain))
        np.testing.assert_array_equal(turned[epoch], turned[0] ^ bool(epoch % 2))
        for index in (0, 399):
            alone = compose.alternating_flip(images[index], jnp.int32(epoch))
            found = compose.normalize(alone, **CONSTANTS)
            np.testing.assert_array_equal(found, one[index])
    # About half of the images begin turned, and no key decides which.
    assert stats.binomtest(int(turned[0].sum()), 400, 0.5).pvalue > LEAST_P
    again = apply(keys(400, seed=1), images)
    np.testing.assert_array_equal(again, shown[0])


def test_jitter_draws():
    amounts = jnp.float32([0.2, 0.1, 0.3])
    factors, order = over_keys(lambda key: compose.draw_jitter(key, amounts))
    for column, amount in zip(factors.T, [0.2, 0.1, 0.3], strict=True):
        assert_uniform(column, 1 - amount - 1e-6, 1 + amount + 1e-6)
    assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.04
    codes = order @ [100, 10, 1]
    assert_equally_likely(codes, [12, 21, 102, 120, 201, 210])
    # The order is independent of the factors.
    for code in np.unique(codes):
        assert_uniform(factors[codes == code, 0], 0.8 - 1e-6, 1.2 + 1e-6)


def test_jitter_is_its_three_functions_in_the_drawn_order():
    # Amounts of 1 clip a lot, and clipping makes the order matter.
    amounts = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0}
    jitter = jax.jit(lambda key, image: compose.color_jitter(key, image, **amounts))
    functions = [compose.brightness, compose.contrast, compose.saturation]
    seen, differ = set(), 0
    for key, image in zip(keys(40), pictures(40), strict=True):
        factors, order = compose.draw_jitter(key, jnp.ones(3))
        seen.add(tuple(order.tolist()))
        found = jitter(key, image)
        for right_order in (True, False):
            expected = image
            for which in order if right_order else order[::-1]:
                expected = functions[which](expected, factors[which])
            if right_order:
                np.testing.assert_allclose(found, expected, atol=1e-3)
            else:
                differ += bool(jnp.abs(found - expected).max() > 1)
        assert found.min() >= 0 and found.max() <= 255
    assert len(seen) == 6
    assert differ > 20


def test_erasing_area_and_aspect():
    # On a large image rounding is small; below these bounds the first try fits.
    side, area, aspect = 2000, (0.02, 0.3), (0.3, 3.3)
    _, _, height, width = over_keys(
        lambda key: erasing.draw_rectangle(key, (side, side), 1.0, area, aspect, 10)
    ).T
    assert_uniform(height * width / side**2, 0.0198, 0.3002)
    log_aspect = np.log(height / width)
    assert_uniform(log_aspect, math.log(0.298), math.log(3.31))
    correlation = stats.spearmanr(height * width, log_aspect)
    assert correlation.pvalue > LEAST_P


def rectangles_one_by_one(rng, height, width, area, aspect):
    """The draw as a loop, in float64: top, left, height, width or None."""
    for _ in range(10):
        target = rng.uniform(*area) * height * width
        ratio = math.exp(rng.uniform(*np.log(aspect)))
        h, w = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if h < height and w < width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return int(top), int(left), h, w
    return None


@pytest.mark.parametrize("shape", [(32, 32), (12, 40)])
def test_erasing_rectangles_are_those_of_a_loop(shape):
    # In the flat shape few rectangles fit, so that the tries matter.
    rng = np.random.default_rng(0)
    ranges = SETTINGS["random_erasing"]["area"], SETTINGS["random_erasing"]["aspect"]
    expected = np.array(
        [rectangles_one_by_one(rng, *shape, *ranges) for _ in range(DRAWS)]
    )
    found = over_keys(lambda key: erasing.draw_rectangle(key, shape, 1.0, *ranges, 10))
    for ours, theirs in zip(found.T, expected.T, strict=True):
        values = np.unique([*ours, *theirs])
        counts = [[(side == v).sum() for v in values] for side in (ours, theirs)]
        rare = np.sum(counts, axis=0) < 20
        table = np.array(counts)[:, ~rare]
        assert stats.chi2_contingency(table).pvalue > LEAST_P
    assert (found[:, :2] >= 0).all()
    assert (found[:, :2] + found[:, 2:] <= shape).all()


def test_erasing_sets_one_rectangle_to_zero_half_of_the_time():
    settings = SETTINGS["random_erasing"]
    image = jnp.ones((32, 32, 3))
    found = over_keys(lambda key: compose.random_erasing(key, image, **settings))
    rectangles = over_keys(
        lambda key: erasing.draw_rectangle(key, (32, 32), tries=10, **settings)
    )
    erased = rectangles[:, 2] > 0
    assert stats.binomtest(erased.sum(), DRAWS, 0.5).pvalue > LEAST_P
    for ours, (top, left, height, width) in zip(found, rectangles, strict=True):
        expected = np.ones((32, 32, 3))
        expected[top : top + height, left : left + width] = 0
        np.testing.assert_array_equal(ours, expected)


def test_erasing_gives_up_when_nothing_fits():
    image = jnp.ones((8, 8, 3))
    settings = {"probability": 1.0, "area": (1.0, 1.0), "aspect": (0.3, 3.3)}
    found = over_keys(lambda key: compose.random_erasing(key, image, **settings), 100)
    np.testing.assert_array_equal(found, 1)


def test_cutout():
    height, width, half = 20, 32, 8
    image = jnp.ones((height, width, 3))
    expected = {}
    for y, x in itertools.product(range(height), range(width)):
        hole = np.ones((height, width), bool)
        hole[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = False
        expected[hole.tobytes()] = (y, x)
    found = over_keys(lambda key: compose.cutout(key, image, size=2 * half))
    assert (found == found[..., :1]).all()
    centres = np.array([expected[h.tobytes()] for h in found[..., 0].astype(bool)])
    codes = centres @ [width, 1]
    assert len(expected) == height * width  # every centre leaves another hole
    assert_equally_likely(codes, range(height * width))


# Composition


@functools.cache
def whole_recipe(channels):
    constants = {name: values[:channels] for name, values in CONSTANTS.items()}
    return jax.jit(compose.build(RECIPE, SETTINGS, **constants))


@pytest.mark.parametrize("channels", [1, 3])
def test_reference_vmap_and_jit_agree(channels):
    constants = {name: values[:channels] for name, values in CONSTANTS.items()}
    images = pictures(8, channels=channels)
    image_keys = jax.random.split(jax.random.key(3), 8)
    compiled = whole_recipe(channels)
    found = compiled(image_keys, images)
    assert found.shape == images.shape and found.dtype == jnp.float32
    np.testing.assert_array_equal(found, compiled(image_keys, images))

    chain = partial(one_after_the_other, constants=constants)
    mapped = jax.jit(jax.vmap(chain))(image_keys, images)
    np.testing.assert_allclose(found, mapped, atol=1e-4)
    if channels == 1:
        return
    # The reference: an image at a time, a function at a time.
    for one, image_key, image in zip(found, image_keys, images, strict=True):
        np.testing.assert_allclose(one, chain(image_key, image), atol=1e-4)


def test_an_image_depends_on_its_own_key_alone():
    apply = whole_recipe(3)
    images = pictures(8)
    keys = jax.random.split(jax.random.key(0), 8)
    found = apply(keys, images)
    is_fifth = jnp.arange(8) == 5
    others = jnp.where(is_fifth.reshape(-1, 1, 1, 1), images, 255 - images)
    other_keys = jnp.where(is_fifth, keys, jax.random.split(jax.random.key(1), 8))
    np.testing.assert_array_equal(apply(other_keys, others)[5], found[5])
    assert not np.array_equal(apply(other_keys, images)[4], found[4])
    # The same picture eight times is augmented in eight ways.
    same = apply(keys, jnp.broadcast_to(images[:1], images.shape))
    assert len(np.unique(np.asarray(same).reshape(8, -1), axis=0)) == 8


def test_normalize_alone_is_evaluations():
    images = pictures(4)
    keys = jax.random.split(jax.random.key(0), 4)
    found = compose.build(["normalize"], {}, **CONSTANTS)(keys, images)
    np.testing.assert_array_equal(found, compose.normalize(images, **CONSTANTS))
