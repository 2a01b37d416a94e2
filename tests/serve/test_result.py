import base64
import io
import re

import numpy as np
from PIL import Image
from result import result_of

NAMES = {
    "class_names": ["maple_tree", "<b>", "rose", "sea", "bus", "cup"],
    "superclass_names": ["trees", "other_things"],
    "superclass_of": [0, 1, 1, 1, 1, 1],
}
PROBABILITIES = np.array([0.1, 0.5, 0.2, 0.15, 0.05, 0.0], np.float32)
SEEN = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
MAPS = np.zeros((2, 2, 6), np.float32)
MAPS[0, 1, 1], MAPS[1, 1, 1], MAPS[0, 0, 1] = 4, 2, -9


def result(**changes):
    return result_of(SEEN, PROBABILITIES, MAPS, **{**NAMES, **changes})


def pictures(html):
    for encoded in re.findall(r'src="data:image/png;base64,([^"]*)"', html):
        yield np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))


def test_json():
    answer = result().as_dict()
    assert answer["label"] == "<b>"
    assert answer["confidence"] == 0.5
    assert [g["label"] for g in answer["top5"]] == [
        *("<b>", "rose", "sea", "maple tree", "bus"),
    ]
    assert answer["top5"][3]["superclass"] == "trees"
    assert answer["superclass"] == "other things"


def test_data_without_superclasses():
    answer = result(superclass_names=[], superclass_of=[])
    assert answer.as_dict()["superclass"] is None
    assert "small" not in answer.as_html()


def test_fewer_classes_than_five():
    few = result_of(
        SEEN,
        PROBABILITIES[:2],
        MAPS[..., :2],
        class_names=["a", "b"],
        superclass_names=[],
        superclass_of=[],
    )
    assert len(few.as_dict()["top5"]) == 2


def test_the_page_shows_what_the_model_saw_and_where_it_looked():
    seen, first, *others = pictures(result().as_html())
    np.testing.assert_array_equal(seen, SEEN)
    np.testing.assert_array_equal(first[..., 3], [[0, 255], [0, 128]])
    assert len(others) == 4
    assert all(other[..., 3].max() == 0 for other in others)


def test_names_are_no_markup():
    html = result().as_html()
    assert "<b>" not in html
    assert "&lt;b&gt;" in html


def test_grey_images():
    grey = result_of(SEEN[..., :1], PROBABILITIES, MAPS, **NAMES)
    seen, *_ = pictures(grey.as_html())
    np.testing.assert_array_equal(seen, SEEN[..., 0])
