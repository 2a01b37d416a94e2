"""Recipes are read and checked; those that ship can be trained."""

import jax
import pytest
from command_line import ROOT

from jax_resnet import config
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.runtime.errors import UserError
from jax_resnet.search.recipes import BaseConfig, parse_rungs, read_recipes
from jax_resnet.training.build import RunBuilder, describe_data


def read(tmp_path, text):
    path = tmp_path / "recipes.toml"
    path.write_text(text)
    return read_recipes(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "is not TOML"),
        ("", "has no recipe"),
        ("['../a']", "a table for each recipe, named by letters"),
        ("[a]\ndata.holdout = 7", "sets data.holdout, which is the same for all"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize("text", ["2,1", "ten"])
def test_bad_rungs_are_refused(text):
    assert parse_rungs("15,50") == [15, 50]
    with pytest.raises(UserError, match="--epochs must be rising"):
        parse_rungs(text)


@pytest.mark.ci
def test_the_recipes_that_ship_can_be_trained(tmp_path):
    small = ("--config.model.depth=8", "--config.data.name=synthetic")
    base = BaseConfig(str(ROOT / "configs" / "resnet56_plus.py"), small)
    recipes = read_recipes(ROOT / "configs" / "recipes.toml")
    unchanged = base.task(recipes["plus"], 50, tmp_path).settings
    described = describe_data(unchanged)
    one = DeviceMesh((jax.devices()[0],))
    for name, recipe in recipes.items():
        settings = base.task(recipe, 50, tmp_path).settings
        is_base = config.to_json(settings) == config.to_json(unchanged)
        assert is_base == (name == "plus"), name
        settings = config.with_dtype(settings, "float32")
        RunBuilder(settings, one, described).build(jax.random.key(0))
