import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from prediction import Prediction

from jax_resnet.data import DatasetInfo
from jax_resnet.data.labels import top_classes

INFO = DatasetInfo(
    name="things",
    version="1",
    image_shape=(8, 8, 3),
    class_names=("maple_tree", "<b>", "rose", "sea", "bus", "cup"),
    superclass_names=("trees", "other_things"),
    superclass_of=(0, 1, 1, 1, 1, 1),
    mean=(),
    std=(),
)
PROBABILITIES = np.array([0.1, 0.5, 0.2, 0.15, 0.05, 0.0], np.float32)
IMAGE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
MAPS = np.zeros((5, 2, 2), np.float32)
MAPS[0] = [[-9, 4], [0, 2]]


def predict(image=IMAGE, probabilities=PROBABILITIES, **changes):
    classes, order = top_classes(probabilities, replace(INFO, **changes))
    return Prediction(image, classes, MAPS[: len(order)], seconds=0.0123)


def pictures(html):
    for encoded in re.findall(r'src="data:image/png;base64,([^"]*)"', html):
        yield np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))


def test_json():
    answer = predict().as_dict()
    assert (answer["label"], answer["confidence"]) == ("<b>", 0.5)
    assert answer["superclass"] == "other things"
    labels = [each["label"] for each in answer["top5"]]
    assert labels == ["<b>", "rose", "sea", "maple tree", "bus"]
    assert answer["top5"][3]["superclass"] == "trees"


@pytest.mark.parametrize(
    ("confidence", "verdict"),
    [
        (0.31, "Not sure. Perhaps <strong>maple tree</strong>"),
        (0.6, "Probably <strong>maple tree</strong>"),
        (0.9, "<strong>maple tree</strong>"),
    ],
)
def test_doubt_is_said(confidence, verdict):
    others = np.full(5, (1 - confidence) / 5)
    probabilities = np.array([confidence, *others], np.float32)
    prediction = predict(probabilities=probabilities)
    assert prediction.verdict == verdict
    assert f"<p>{verdict}</p>" in prediction.as_html()


def test_few_classes_without_superclasses():
    few = predict(probabilities=PROBABILITIES[:2], superclass_of=())
    assert len(few.as_dict()["top5"]) == 2
    assert few.as_dict()["superclass"] is None
    assert few.as_html().count("<small>") == 1  # the time
    assert "answered in 12 ms" in few.as_html()


def test_the_page_shows_the_input_the_maps_and_names_without_markup():
    names = ("maple_tree", "<b>\x1b", *INFO.class_names[2:])
    html = predict(class_names=names).as_html()
    assert "<b>" not in html
    assert r"&lt;b&gt;\x1b" in html
    image, first, *others = pictures(html)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(first[..., 3], [[0, 255], [0, 128]])
    assert len(others) == 4
    assert all(other[..., 3].max() == 0 for other in others)
    grey, *_ = pictures(predict(IMAGE[..., :1]).as_html())
    np.testing.assert_array_equal(grey, IMAGE[..., 0])
    four = np.concatenate([IMAGE, IMAGE[..., :1]], axis=-1)
    np.testing.assert_array_equal(next(pictures(predict(four).as_html())), four)
