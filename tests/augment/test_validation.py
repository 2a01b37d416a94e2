import math

import jax
import pytest
from augment_fixtures import CONSTANTS, RECIPE, SETTINGS, pictures

from jax_resnet.augment import compose
from jax_resnet.runtime.errors import UserError


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (["random_crp", "normalize"], "did you mean 'random_crop'"),
        (["mixup", "normalize"], "known: random_crop"),
        (["random_crop"], "exactly once, not 0"),
        (["normalize", "normalize"], "exactly once, not 2"),
        (["normalize", "random_flip"], "'random_flip' must come before"),
        (["normalize", "color_jitter"], "'color_jitter' must come before"),
        (["cutout", "normalize"], "'cutout' must come after"),
    ],
)
def test_bad_recipes(recipe, message):
    with pytest.raises(UserError, match=message) as error:
        compose.build(recipe, SETTINGS, **CONSTANTS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("random_crop", {"pading": 4}, "random_crop.pading; did you mean 'padding'"),
        ("random_crop", {}, "random_crop.padding is missing"),
        ("random_crop", {"padding": -1}, "padding must be a whole number from 0"),
        ("random_crop", {"padding": 1.5}, "padding must be a whole number"),
        ("random_crop", {"padding": True}, "padding must be a whole number"),
        ("random_flip", {"probability": 1.1}, "must be a number from 0 to 1, not 1.1"),
        ("random_flip", {"probability": math.nan}, "must be a number from 0 to 1"),
        ("random_flip", {"probability": "often"}, "must be a number from 0 to 1"),
        ("random_rotation", {"degrees": 181}, "degrees must be a number from 0 to 180"),
        ("random_erasing", {"area": (0.3, 0.1)}, "area must be two numbers, in order"),
        ("random_erasing", {"area": 0.3}, "area must be two numbers"),
        ("random_erasing", {"area": (0.1, "x")}, "area must be two numbers"),
        ("random_erasing", {"aspect": (0, 3)}, "aspect must be two numbers"),
        ("random_erasing", {"tries": 0}, "tries must be a whole number from 1"),
        ("cutout", {"size": 0}, "size must be a whole number from 1"),
        ("trivial_augment", {"bins": 1}, "bins must be a whole number from 2 to 256"),
        ("rand_augment", {"operations": 0}, "operations must be a whole number from 1"),
        ("rand_augment", {"magnitude": 31}, "must be less than bins, 31, not 31"),
        ("rand_augment", {"bins": 9}, "magnitude must be less than bins, 9, not 9"),
        ("cutuot", {"size": 1}, "unknown augmentation 'cutuot'; did you mean 'cutout'"),
    ],
)
def test_bad_settings(name, settings, message):
    changed = SETTINGS.get(name, {}) | settings if settings else {}
    if "pading" in settings:
        changed = settings
    with pytest.raises(UserError, match=message) as error:
        compose.build(RECIPE, SETTINGS | {name: changed}, **CONSTANTS)
    assert "\n" not in str(error.value)


def test_settings_of_what_is_not_in_the_recipe_are_checked():
    settings = {"cutout": {"size": math.nan}}
    with pytest.raises(UserError, match=r"cutout.size must be"):
        compose.build(["normalize"], settings, **CONSTANTS)


def test_a_default_magnitude_is_below_bins_too():
    settings = {"rand_augment": {"bins": 5}}
    with pytest.raises(UserError, match=r"rand_augment.magnitude must be less than"):
        compose.build(["rand_augment", "normalize"], settings, **CONSTANTS)


def test_whole_numbers_and_lists_are_as_good():
    lists = {"area": [0.02, 0.33], "aspect": [1, 2], "tries": 10}
    settings = SETTINGS | {
        "random_rotation": {"degrees": 15},
        "random_erasing": SETTINGS["random_erasing"] | lists,
    }
    apply = compose.build(list(RECIPE), settings, **CONSTANTS)
    keys = jax.random.split(jax.random.key(0), 2)
    assert jax.eval_shape(apply, keys, pictures(2)).shape == (2, 32, 32, 3)
