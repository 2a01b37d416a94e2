import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from format_fixtures import make_predictor, random_images, same_arrays

from jax_resnet.checkpoint import model_folder
from jax_resnet.checkpoint.digests import digest_json
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError


@pytest.fixture(scope="module")
def predictor():
    return make_predictor()


@pytest.fixture
def folder(predictor, tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    model_folder.write(path, predictor.stored)
    return path


def test_what_is_written_is_read(predictor, folder):
    opened = Predictor.open(str(folder))
    assert same_arrays(predictor, opened)
    assert opened.metadata == predictor.metadata
    assert (opened.step, opened.temperature) == (9, 1.7)
    images = random_images(predictor)
    np.testing.assert_array_equal(opened.predict(images), predictor.predict(images))


def test_arrays_of_any_memory_layout(predictor, tmp_path):
    arrays = {k: np.asfortranarray(v) for k, v in predictor.stored.arrays.items()}
    model_folder.write(tmp_path, replace(predictor.stored, arrays=arrays))
    assert same_arrays(predictor, Predictor.open(tmp_path))


def test_the_weights_are_ordinary_safetensors(predictor, folder):
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(
        tensors["params.head.kernel"], predictor.params["head.kernel"]
    )


def test_a_folder_has_one_step(folder):
    assert Predictor.open(folder, "9").step == 9
    with pytest.raises(UserError, match="holds one model, of step 9"):
        Predictor.open(folder, "10")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "gone", "folder", "pipe"])
def test_damage_is_noticed(folder, name, damage):
    path = folder / name
    contents = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(contents[: len(contents) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flip":
        contents[-40] ^= 1
        path.write_bytes(contents)
    else:
        path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    with pytest.raises(UserError, match=r"is damaged, in|no checkpoint in") as caught:
        Predictor.open(folder)
    assert "\n" not in str(caught.value)


def forge(folder, change):
    """Changes config.json, with the digest that then fits."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    digest = config["digests"].pop("config.json")
    assert digest == digest_json(config)
    change(config)
    if isinstance(config.get("digests"), dict):
        config["digests"]["config.json"] = digest_json(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format_version=2), "has format 2"),
        (lambda c: c.update(format_version="1"), "is damaged"),
        (lambda c: c.update(step=-1), "is damaged"),
        (lambda c: c.update(step=True), "is damaged"),
        (lambda c: c.update(temperature=0.0), "is damaged"),
        (lambda c: c.update(temperature=float("inf")), "is damaged"),
        (lambda c: c.update(temperature=None), "is damaged"),
        (lambda c: c.update(run=[1]), "is damaged"),
        (lambda c: c.pop("run"), "is damaged"),
        (lambda c: c.update(digests=[]), "is damaged"),
        (lambda c: c["run"]["model"].update(depth=20), "not the config's"),
        (lambda c: c["run"]["dataset"].update(std=[0.0] * 3), "deviations"),
        (lambda c: c["run"].update(history=[{}]), "history"),
    ],
)
def test_forged_configs(folder, change, message):
    forge(folder, change)
    with pytest.raises(UserError, match=message) as caught:
        Predictor.open(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", "null", "{}", "\xff", "1" * 9999]
)
def test_configs_that_are_none(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"is damaged, in config\.json"):
        Predictor.open(folder)


def test_arrays_of_another_model(folder, predictor, tmp_path):
    other = make_predictor(width=2)
    stored = replace(other.stored, metadata=predictor.metadata)
    shutil.rmtree(folder)
    folder.mkdir()
    model_folder.write(folder, stored)
    with pytest.raises(UserError, match="another model"):
        Predictor.open(folder)
