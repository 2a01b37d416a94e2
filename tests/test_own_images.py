"""One's own images: trained on, evaluated, exported and served."""

import json

import numpy as np
import pytest
from classifier import Classifier
from command_line import run_here
from data.data_fixtures import random_images
from PIL import Image

from jax_resnet.predictor import Predictor

CLASSES = ("cat", "a|b $x$ <i>*ü*", "#1 日本")


def make_folder(tmp_path):
    images, labels = random_images(90, 3)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "pets" / CLASSES[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return path, ["--config.data.name=folder", f"--config.data.dir={tmp_path / 'pets'}"]


def make_arrays(tmp_path):
    images, labels = random_images(90, 3, shape=(32, 32))
    names = np.array(CLASSES)
    path = tmp_path / "arrays.npz"
    np.savez(path, train_images=images, train_labels=labels, class_names=names)
    picture = tmp_path / "grey.png"
    Image.fromarray(images[0]).save(picture)
    return picture, ["--config.data.name=arrays", f"--config.data.dir={path}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "resolution", "channels"),
    [
        (make_folder, 64, 3),
        pytest.param(make_arrays, 32, 1, marks=pytest.mark.ci),
    ],
)
def test_trained_evaluated_exported_and_served(
    tiny, tmp_path, make, resolution, channels
):
    picture, settings = make(tmp_path)
    settings += [
        f"--config.data.resolution={resolution}",
        "--config.data.train_split=train",
        "--config.data.eval_split=test",
        "--config.train.epochs=1",
    ]
    run = tmp_path / "run"
    for module, words in (
        ("train", settings),
        ("evaluate", []),
        *(
            ("export", ["--format", kind, "--output", str(tmp_path / kind)])
            for kind in ("safetensors", "space")
        ),
    ):
        result = run_here(tiny, run, *words, module=module)
        assert result.returncode == 0, result.stderr
    report = json.loads((run / "evaluation-test.json").read_text())
    assert report["n"] == 18
    assert {one["name"] for one in report["per_class"]} == set(CLASSES)
    page = (run / "evaluation-test.md").read_text()
    assert r"| a\|b \$x\$ \<i\>\*ü\* |" in page
    for model in (run, tmp_path / "safetensors", tmp_path / "space" / "model"):
        predictor = Predictor.open(model)
        assert predictor.info.image_shape == (resolution, resolution, channels)
        prediction = Classifier(predictor)(picture, "crop")
        assert {one["label"] for one in prediction.classes} == set(CLASSES)
