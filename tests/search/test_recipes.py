"""Recipes as a search reads them, takes them apart, and those that ship."""

import jax
import pytest
from command_line import ROOT

from jax_resnet import config
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.runtime.errors import UserError
from jax_resnet.search.recipes import Base, ablation, read_recipes
from jax_resnet.training.build import RunBuilder, describe_data


def test_ablation_takes_each_field_away_and_adds_it(tmp_path):
    path = tmp_path / "recipes.toml"
    path.write_text("[best]\na = 1\nb.c = 2\nd = 3\n[other]\ne = 4\n[single]\na = 1")
    recipes = read_recipes(path)
    full = {"a": 1, "b.c": 2, "d": 3}
    found = ablation(recipes, "best")
    assert {name: recipe.fields for name, recipe in found.items()} == {
        "best": full,
        "base": {},
        "best-without-a": {"b.c": 2, "d": 3},
        "base-with-a": {"a": 1},
        "best-without-b.c": {"a": 1, "d": 3},
        "base-with-b.c": {"b.c": 2},
        "best-without-d": {"a": 1, "b.c": 2},
        "base-with-d": {"d": 3},
    }
    assert list(ablation(recipes, "single")) == ["single", "base"]
    with pytest.raises(UserError, match="no recipe 'bets'; did you mean 'best'"):
        ablation(recipes, "bets")


def test_recipes_that_cannot_be_told_apart_or_read(tmp_path):
    path = tmp_path / "recipes.toml"
    path.write_text("[base]\na = 1")
    with pytest.raises(UserError, match="name it otherwise"):
        ablation(read_recipes(path), "base")
    path.write_text("[deep]\n" + ".".join(["a"] * 3000) + " = 1")
    with pytest.raises(UserError, match="nested too deeply"):
        read_recipes(path)


def test_the_recipes_that_ship_can_be_trained(tmp_path):
    small = ("--config.model.depth=8", "--config.data.name=synthetic")
    base = Base(str(ROOT / "configs" / "resnet56_plus.py"), small)
    recipes = read_recipes(ROOT / "configs" / "recipes.toml")
    unchanged = base.task(recipes["plus"], 50, tmp_path).settings
    described = describe_data(unchanged)
    one = DeviceMesh((jax.devices()[0],))
    for name, recipe in recipes.items():
        settings = base.task(recipe, 50, tmp_path).settings
        is_base = config.to_json(settings) == config.to_json(unchanged)
        assert is_base == (name == "plus"), name
        settings = config.with_dtype(settings, "float32")
        counts = described.n_train, described.n_eval
        RunBuilder(settings, one, described.info, *counts).build(jax.random.key(0))
