import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from format_fixtures import make_predictor, random_images, same_arrays

from jax_resnet.checkpoint import model_folder
from jax_resnet.checkpoint.digests import digest_json
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError


@pytest.fixture(scope="module")
def predictor():
    return make_predictor()


@pytest.fixture
def folder(predictor, tmp_path):
    model_folder.write(tmp_path, predictor.stored)
    return tmp_path


@pytest.mark.slow
def test_a_model_comes_back(predictor, folder):
    opened = Predictor.open(str(folder))
    assert same_arrays(predictor, opened)
    assert opened.metadata == predictor.metadata
    assert (opened.step, opened.temperature) == (9, 1.7)
    images = random_images(predictor)
    np.testing.assert_array_equal(opened.predict(images), predictor.predict(images))


def test_the_weights_are_ordinary_safetensors_of_any_memory_layout(predictor, tmp_path):
    arrays = {k: np.asfortranarray(v) for k, v in predictor.stored.arrays.items()}
    model_folder.write(tmp_path, replace(predictor.stored, arrays=arrays))
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    for name, array in predictor.params.items():
        np.testing.assert_array_equal(tensors[f"params.{name}"], array)


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    return content[:-40] + bytes([content[-40] ^ 1]) + content[-39:]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("damage", [cut, flip, lambda _: b"", lambda _: b"[]"])
def test_damage_is_noticed(folder, name, damage):
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=rf"is damaged, in {name}"):
        model_folder.read(folder)


def test_what_may_not_be_read_is_not_damaged(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(model_folder.Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"cannot read .*config\.json': Permission den"):
        model_folder.read(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "has format 2"),
        ({"temperature": 0.0}, "is damaged"),
        ({"run": {}}, "not that of a run"),
    ],
)
def test_wrong_configs_are_refused(folder, change, message):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    assert config["digests"].pop("config.json") == digest_json(config)
    config.update(change)
    config["digests"]["config.json"] = digest_json(config)
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        model_folder.read(folder)


def test_arrays_of_another_model_are_refused(predictor, tmp_path):
    other = make_predictor(width=2)
    model_folder.write(tmp_path, replace(other.stored, metadata=predictor.metadata))
    with pytest.raises(UserError, match="another model"):
        Predictor.open(tmp_path)
