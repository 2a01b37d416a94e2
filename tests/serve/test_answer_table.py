"""Several answers as HTML and CSV."""

import csv
import io
import re
from urllib.parse import unquote

import numpy as np
from answer_table import Answer, as_csv, as_html
from prediction import Prediction

IMAGE = np.zeros((4, 4, 3), np.uint8)
CLASSES = [
    {"label": "maple tree", "superclass": "trees", "confidence": 0.61234},
    {"label": "<b>", "superclass": None, "confidence": 0.3},
]
MAPS = np.zeros((2, 1, 1), np.float32)
ANSWERS = [
    Answer('a, "b".png', Prediction(IMAGE, CLASSES, MAPS, 0.01)),
    Answer("<i>.png\ud800", problem="This is not an image."),
]


def test_csv_has_a_line_for_each_picture():
    first, second = csv.DictReader(io.StringIO(as_csv(ANSWERS)))
    assert first["file"] == 'a, "b".png'
    assert (first["class_1"], first["group_1"]) == ("maple tree", "trees")
    assert first["confidence_1"] == "0.6123"
    assert (first["class_2"], first["group_2"]) == ("<b>", "")
    assert (first["class_3"], first["problem"]) == ("", "")
    assert (second["file"], second["class_1"]) == ("<i>.png\\ud800", "")
    assert second["problem"] == "This is not an image."


def test_the_page_has_the_same_and_no_markup_of_names():
    html = as_html(ANSWERS)
    assert "<i>" not in html
    assert "Probably <strong>maple tree</strong> <small>trees</small>" in html
    assert "61.2 %" in html and "This is not an image." in html
    (encoded,) = re.findall(r'href="data:text/csv;charset=utf-8,([^"]*)"', html)
    assert unquote(encoded) == as_csv(ANSWERS)
