"""TrivialAugment and RandAugment against Pillow, and against their distributions."""

import functools
import itertools
import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augment_fixtures import (
    COMPILED,
    CONSTANTS,
    LEAST_P,
    SETTINGS,
    keys,
    over_keys,
    pictures,
)
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from jax_resnet.augment import auto_augment, compose, pillow_ops
from jax_resnet.augment.auto_augment import Operation

BINS = 31
DRAWN = 400
SHAPES = [(32, 32, 3), (20, 37, 1)]
BLENDS = {
    Operation.BRIGHTNESS: ImageEnhance.Brightness,
    Operation.COLOR: ImageEnhance.Color,
    Operation.CONTRAST: ImageEnhance.Contrast,
    Operation.SHARPNESS: ImageEnhance.Sharpness,
}
SIGNED = list(Operation)[1:10]

# The reference: Pillow, called as torchvision calls it.


def affine(image, matrix):
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST
    )


def pillow(pixels, operation, magnitude):
    """Applies an operation to uint8 ``[h, w, c]``."""
    grey = pixels.shape[-1] == 1
    image = Image.fromarray(pixels[..., 0] if grey else pixels)
    tangent = math.tan(math.radians(math.degrees(math.atan(magnitude))))
    match operation:
        case Operation.SHEAR_X:
            image = affine(image, (1, tangent, 0, 0, 1, 0))
        case Operation.SHEAR_Y:
            image = affine(image, (1, 0, 0, tangent, 1, 0))
        case Operation.TRANSLATE_X:
            image = affine(image, (1, 0, -int(magnitude), 0, 1, 0))
        case Operation.TRANSLATE_Y:
            image = affine(image, (1, 0, 0, 0, 1, -int(magnitude)))
        case Operation.ROTATE:
            image = image.rotate(magnitude, Image.Resampling.NEAREST)
        case Operation.POSTERIZE:
            image = ImageOps.posterize(image, int(magnitude))
        case Operation.SOLARIZE:
            image = ImageOps.solarize(image, magnitude)
        case Operation.AUTOCONTRAST:
            image = ImageOps.autocontrast(image)
        case Operation.EQUALIZE:
            image = ImageOps.equalize(image)
        case Operation.IDENTITY:
            pass
        case _:
            image = BLENDS[operation](image).enhance(1 + magnitude)
    return np.asarray(image).reshape(pixels.shape)


def magnitude_of(policy, operation, step, sign, shape, bins=BINS):
    """The magnitude by torchvision's formulas, one number at a time."""
    wide = policy == "trivial"
    part = step / (bins - 1)
    match operation:
        case Operation.SHEAR_X | Operation.SHEAR_Y:
            magnitude = (0.99 if wide else 0.3) * part
        case Operation.TRANSLATE_X:
            magnitude = (32 if wide else 150 / 331 * shape[1]) * part
        case Operation.TRANSLATE_Y:
            magnitude = (32 if wide else 150 / 331 * shape[0]) * part
        case Operation.ROTATE:
            magnitude = (135 if wide else 30) * part
        case Operation.POSTERIZE:
            magnitude = 8 - round(step / ((bins - 1) / (6 if wide else 4)))
        case Operation.SOLARIZE:
            magnitude = 255 * (1 - part)
        case operation if operation in BLENDS:
            magnitude = (0.99 if wide else 0.9) * part
        case _:
            magnitude = 0.0
    magnitude = float(np.float32(magnitude))
    return -magnitude if operation in SIGNED and sign else magnitude


TABLES = {"trivial": auto_augment.trivial_table, "rand": auto_augment.rand_table}


@functools.cache
def applied(shape):
    """Applies to each image of a batch its choice from a table; compiled once."""
    return jax.jit(jax.vmap(auto_augment.apply, in_axes=(0, None, 0)))


@functools.cache
def mapped(name):
    return jax.jit(jax.vmap(partial(getattr(compose, name), **SETTINGS[name])))


def extremes(shape):
    """Pictures of few levels, or many, where tables of levels are at their limits."""
    height, width, _ = shape
    rng = np.random.default_rng(0)
    found = []
    for low, high in [(0, 0), (255, 255), (7, 7), (0, 255), (100, 101), (3, 250)]:
        constant = np.full(shape, low, np.uint8)
        one_pixel = constant.copy()
        one_pixel[height // 2, width // 3] = high
        halves = constant.copy()
        halves[: height // 2] = high
        found += [constant, one_pixel, halves]
    for low, span in [(10, 7), (0, 75), (140, 115), (30, 221), (64, 2), (17, 238)]:
        found.append(rng.integers(low, low + span + 1, shape, np.uint8))
    ramp = (np.arange(height * width) % 256).astype(np.uint8)
    ramp = np.broadcast_to(ramp.reshape(height, width, 1), shape)
    skewed = (255 * rng.uniform(size=shape) ** 6).astype(np.uint8)
    constant_channel = rng.integers(0, 256, shape, np.uint8)
    constant_channel[..., -1] = 99
    mostly_one = rng.integers(0, 256, shape, np.uint8)
    mostly_one[:-5] = 255
    found += [ramp, 255 - ramp, skewed, 255 - skewed, constant_channel, mostly_one]
    return np.stack(found)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("policy", ["trivial", "rand"])
@pytest.mark.parametrize("operation", Operation, ids=lambda o: o.name.lower())
def test_operation_is_pillows(operation, policy, shape):
    table = TABLES[policy](*shape[:2], BINS)
    steps = np.array([*itertools.product(range(BINS), range(2))], np.int32)
    choices = np.insert(steps, 0, operation, axis=1)
    noise = np.asarray(pictures(len(choices), *shape))
    special = np.resize(extremes(shape), noise.shape)
    for images in (noise, special):
        found = applied(shape)(images, table, choices)
        assert found.dtype == jnp.float32
        expected = [
            pillow(image, operation, magnitude_of(policy, operation, *step, shape))
            for image, step in zip(images, steps, strict=True)
        ]
        np.testing.assert_array_equal(found, expected)


def test_autocontrast_is_pillows_between_any_two_levels():
    # Where float64 falls short of a whole number, Pillow gets the level below it.
    pairs = [*itertools.combinations(range(256), 2)][::7]
    level = np.arange(256)
    present = np.stack([(level >= low) & (level <= high) for low, high in pairs])
    counts = jnp.asarray(present[..., None], jnp.int32)
    found = np.asarray(jax.jit(jax.vmap(pillow_ops.autocontrast))(counts))[..., 0]
    falls_short = 0
    for (low, high), ours in zip(pairs, found, strict=True):
        between = np.arange(low, high + 1)
        image = Image.fromarray(between[None].astype(np.uint8))
        expected = np.asarray(ImageOps.autocontrast(image))[0]
        np.testing.assert_array_equal(ours[low : high + 1], expected)
        falls_short += (expected < (between - low) * 255 // (high - low)).sum()
    assert falls_short > 1000


@pytest.mark.parametrize("side", [8, 16, 17, 23, 40])
def test_equalize_is_pillows_for_few_pixels_and_many(side):
    rng = np.random.default_rng(side)
    powers = rng.uniform(0.1, 6, (200, 1, 1, 1))
    images = (255 * rng.uniform(size=(200, side, side, 1)) ** powers).astype(np.uint8)

    def equalized(image):
        whole = image.astype(jnp.int32)
        return pillow_ops.look_up(
            pillow_ops.equalize(pillow_ops.histogram(whole)), whole
        )

    found = jax.jit(jax.vmap(equalized))(images)
    expected = [pillow(image, Operation.EQUALIZE, 0) for image in images]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(2, 1, 1), (3, 3, 3)], ids=str)
def test_small_images(shape):
    choices = np.int32([*itertools.product(Operation, [7], [0, 1])])
    images = np.asarray(pictures(len(choices), *shape))
    found = applied(shape)(
        images, auto_augment.trivial_table(*shape[:2], BINS), choices
    )
    for ours, image, (operation, *step) in zip(found, images, choices, strict=True):
        operation = Operation(operation)
        magnitude = magnitude_of("trivial", operation, *step, shape)
        expected = pillow(image, operation, magnitude)
        np.testing.assert_array_equal(ours, expected, err_msg=operation.name)


@pytest.mark.parametrize("bins", [2, 11, 64])
def test_magnitudes_of_other_bins(bins):
    for policy, shape in itertools.product(["trivial", "rand"], SHAPES):
        table = TABLES[policy](*shape[:2], bins)
        for step, sign in itertools.product(range(bins), range(2)):
            operation = Operation.POSTERIZE
            bits = magnitude_of(policy, operation, step, sign, shape, bins)
            assert bin(table.mask[operation, step, sign]).count("1") == bits
            operation = Operation.TRANSLATE_X
            pixels = magnitude_of(policy, operation, step, sign, shape, bins)
            x = table.matrix[operation, step, sign, 2]
            assert x == 32768 - 65536 * int(pixels)


# Distributions


def test_draws_are_uniform_and_independent():
    draws = over_keys(lambda key: auto_augment.draw(key, 2, BINS)).reshape(-1, 6)
    sizes = [len(Operation), BINS, 2] * 2
    for column, size in zip(draws.T, sizes, strict=True):
        counts = np.bincount(column, minlength=size)
        assert len(counts) == size
        assert stats.chisquare(counts).pvalue > LEAST_P
    for (i, first), (j, second) in itertools.combinations(enumerate(draws.T), 2):
        counts = np.zeros((sizes[i], sizes[j]))
        np.add.at(counts, (first, second), 1)
        assert stats.chi2_contingency(counts).pvalue > LEAST_P


def test_policies_do_what_was_drawn():
    shape, count = SHAPES[0], DRAWN
    images = pictures(count, *shape)
    trivial, rand = (
        np.asarray(mapped(name)(keys(count), images))
        for name in ("trivial_augment", "rand_augment")
    )
    drawn = over_keys(lambda key: auto_augment.draw(key, 1, BINS), count)
    both = over_keys(lambda key: auto_augment.draw(key, 2, 1), count)
    for i, image in enumerate(np.asarray(images)):
        ((operation, step, sign),) = drawn[i].tolist()
        operation = Operation(operation)
        magnitude = magnitude_of("trivial", operation, step, sign, shape)
        expected = pillow(image, operation, magnitude)
        np.testing.assert_array_equal(trivial[i], expected, operation.name)
        expected = image
        for operation, _, sign in both[i].tolist():
            operation = Operation(operation)
            magnitude = magnitude_of("rand", operation, 9, sign, shape)
            expected = pillow(expected, operation, magnitude)
        np.testing.assert_array_equal(rand[i], expected)


# Dtypes, and composition


@pytest.mark.parametrize("operation", Operation, ids=lambda o: o.name.lower())
def test_fractional_levels(operation):
    shape = SHAPES[0]
    images = pictures(62, *shape)
    fraction = np.random.default_rng(0).uniform(-0.49, 0.49, images.shape)
    fractional = np.clip(np.asarray(images) + fraction, 0, 255).astype(np.float32)
    choices = np.int32([[operation, 20, 1]] * 62)
    table = auto_augment.trivial_table(*shape[:2], BINS)
    of_whole = applied(shape)(images.astype(jnp.float32), table, choices)
    np.testing.assert_array_equal(of_whole, applied(shape)(images, table, choices))
    found = np.asarray(applied(shape)(fractional, table, choices))
    if operation > Operation.ROTATE:
        np.testing.assert_array_equal(found, of_whole)
    else:
        assert np.abs(found - of_whole).max() < 0.5
        assert (found != np.round(found)).any()
        assert np.isin(found, [0, *np.unique(fractional)]).all()


@pytest.mark.parametrize(
    ("name", "channels"), [("trivial_augment", 1), ("rand_augment", 3)]
)
def test_vmap_and_jit_agree_with_one_by_one(name, channels):
    images, image_keys = pictures(DRAWN, channels=channels), keys(DRAWN, seed=1)
    found = np.asarray(mapped(name)(image_keys, images))
    for i in range(50):
        one = COMPILED[name](image_keys[i], images[i])
        np.testing.assert_array_equal(found[i], one)
    assert len(np.unique(found.reshape(DRAWN, -1), axis=0)) > 0.9 * DRAWN


@pytest.mark.parametrize(
    ("channels", "recipe"),
    [
        (1, ("random_crop", "trivial_augment", "normalize", "cutout")),
        (3, ("rand_augment", "random_flip", "normalize")),
    ],
)
def test_in_a_recipe(channels, recipe):
    constants = {name: values[:channels] for name, values in CONSTANTS.items()}
    images, image_keys = pictures(DRAWN, channels=channels), keys(DRAWN)
    built = compose.build(recipe, SETTINGS, **constants)
    found = jax.jit(built)(image_keys, images)
    assert found.dtype == jnp.float32 and found.shape == images.shape
    step_keys = jax.jit(jax.vmap(lambda key: jax.random.split(key, len(recipe))))
    for name, keys_of_step in zip(recipe, step_keys(image_keys).T, strict=True):
        if name == "normalize":
            images = compose.normalize(images, **constants)
        else:
            images = mapped(name)(keys_of_step, images)
    np.testing.assert_allclose(found, images, atol=1e-6)


@pytest.mark.parametrize("name", ["trivial_augment", "rand_augment"])
def test_nothing_branches_or_loops_and_few_numbers_are_drawn(name):
    function = jax.vmap(getattr(compose, name))
    text = str(jax.make_jaxpr(function)(keys(2), pictures(2)))
    for primitive in ("cond[", "while[", "scan[", "sort["):
        assert primitive not in text
    (drawn,) = re.findall(r"u32\[2,([0-9,]+)\] = random_bits\[", text)
    assert drawn == ("1,3" if name == "trivial_augment" else "2,3")
