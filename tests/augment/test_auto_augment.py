"""TrivialAugment and RandAugment against Pillow, and against their distributions."""

import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augment_fixtures import LEAST_P, keys, over_keys, pictures
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from jax_resnet.augment import auto_augment, pillow_ops
from jax_resnet.augment.auto_augment import Operation, draw_operations

BINS = 31
BLENDS = {
    Operation.BRIGHTNESS: ImageEnhance.Brightness,
    Operation.COLOR: ImageEnhance.Color,
    Operation.CONTRAST: ImageEnhance.Contrast,
    Operation.SHARPNESS: ImageEnhance.Sharpness,
}
TABLES = {"trivial": auto_augment.trivial_table, "rand": auto_augment.rand_table}
APPLY = jax.jit(jax.vmap(auto_augment.apply_operation, in_axes=(0, None, 0)))


def affine(image, matrix):
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST
    )


def pillow(pixels, operation, magnitude):
    """Applies an operation to uint8 ``[h, w, c]``; calls Pillow as torchvision does."""
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


def magnitude_of(policy, operation, step, sign, shape):
    """The magnitude by torchvision's formulas, one number at a time."""
    wide = policy == "trivial"
    part = step / (BINS - 1)
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
            return 8 - round(step / ((BINS - 1) / (6 if wide else 4)))
        case Operation.SOLARIZE:
            return float(np.float32(255 * (1 - part)))
        case _:
            magnitude = (0.99 if wide else 0.9) * part
    magnitude = float(np.float32(magnitude))
    return -magnitude if sign else magnitude


def few_values(images):
    """The pictures with each a range of values of its own, down to a single one."""
    rng = np.random.default_rng(0)
    low, high = np.sort(rng.integers(0, 256, (2, len(images), 1, 1, 1)), axis=0)
    high = np.where(rng.uniform(size=high.shape) < 0.5, np.minimum(low + 3, 255), high)
    return (low + images * (high - low) / 255).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "shape"), [("trivial", (20, 23, 3)), ("rand", (23, 20, 1))]
)
def test_operations_are_pillows(policy, shape):
    table = TABLES[policy](*shape[:2], BINS)
    choices = np.int32([*itertools.product(Operation, range(BINS), range(2))])
    noise = np.asarray(pictures(len(choices), *shape))
    for images in (noise, few_values(noise)):
        found = APPLY(images.astype(np.float32), table, choices)
        for ours, image, (operation, *step) in zip(found, images, choices, strict=True):
            magnitude = magnitude_of(policy, operation, *step, shape)
            expected = pillow(image, operation, magnitude)
            np.testing.assert_array_equal(ours, expected, str(Operation(operation)))

    # Fractions stay under geometry, and are rounded by the other operations.
    fraction = np.random.default_rng(0).uniform(-0.49, 0.49, noise.shape)
    fractional = np.clip(noise + fraction, 0, 255).astype(np.float32)
    whole = np.asarray(APPLY(noise.astype(np.float32), table, choices))
    found = np.asarray(APPLY(fractional, table, choices))
    is_geometry = choices[:, 0] <= Operation.ROTATE
    np.testing.assert_array_equal(found[~is_geometry], whole[~is_geometry])
    assert 0 < np.abs(found - whole)[is_geometry].max() < 0.5


def test_autocontrast_is_pillows_between_any_two_values():
    # Where float64 falls short of a whole number, Pillow gets the value below it.
    pairs = [*itertools.combinations(range(256), 2)][::29]
    value = np.arange(256)
    present = np.stack([(value >= low) & (value <= high) for low, high in pairs])
    counts = jnp.asarray(present[..., None], jnp.int32)
    found = np.asarray(jax.jit(jax.vmap(pillow_ops.autocontrast))(counts))[..., 0]
    falls_short = 0
    for (low, high), ours in zip(pairs, found, strict=True):
        between = np.arange(low, high + 1)
        image = Image.fromarray(between[None].astype(np.uint8))
        expected = np.asarray(ImageOps.autocontrast(image))[0]
        np.testing.assert_array_equal(ours[low : high + 1], expected)
        falls_short += (expected < (between - low) * 255 // (high - low)).sum()
    assert falls_short > 200


def test_draws_are_uniform_and_independent():
    draws = over_keys(lambda key: draw_operations(key, 2, BINS), 10_000).reshape(-1, 6)
    sizes = [len(Operation), BINS, 2] * 2
    for column, size in zip(draws.T, sizes, strict=True):
        counts = np.bincount(column, minlength=size)
        assert len(counts) == size
        assert stats.chisquare(counts).pvalue > LEAST_P
    for (i, first), (j, second) in itertools.combinations(enumerate(draws.T), 2):
        counts = np.zeros((sizes[i], sizes[j]))
        np.add.at(counts, (first, second), 1)
        assert stats.chi2_contingency(counts).pvalue > LEAST_P


@pytest.mark.slow
def test_policies_apply_the_operations_drawn():
    shape, count = (20, 23, 3), 200
    images = pictures(count, *shape)
    for policy, function, draws, fixed_step in (
        ("trivial", auto_augment.trivial_augment, (1, BINS), 0),
        ("rand", auto_augment.rand_augment, (2, 1), 9),
    ):
        found = jax.jit(jax.vmap(function))(keys(count), images)
        drawn = over_keys(lambda key, d=draws: draw_operations(key, *d), count)
        for ours, image, operations in zip(
            found, np.asarray(images), drawn, strict=True
        ):
            for operation, step, sign in operations.tolist():
                step += fixed_step
                magnitude = magnitude_of(policy, operation, step, sign, shape)
                image = pillow(image, operation, magnitude)
            np.testing.assert_array_equal(ours, image)


@pytest.mark.parametrize(
    ("function", "draws"),
    [(auto_augment.trivial_augment, "1,3"), (auto_augment.rand_augment, "2,3")],
)
def test_nothing_branches_or_loops_and_few_numbers_are_drawn(function, draws):
    text = str(jax.make_jaxpr(jax.vmap(function))(keys(2), pictures(2)))
    for primitive in ("cond[", "while[", "scan[", "sort["):
        assert primitive not in text
    assert re.findall(r"u32\[2,([0-9,]+)\] = random_bits\[", text) == [draws]
