"""The demo on a GPU gives the answers of the trained model."""

import base64
import importlib.util
import io
import json
import re
import subprocess
import sys
import urllib.request

import jax
import numpy as np
import pytest
from card_fixtures import KIND, assert_near
from classifier import Classifier
from command_line import ROOT
from PIL import Image

from jax_resnet.predict import Predictor

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def png(images):
    contents = io.BytesIO()
    Image.fromarray(images[0]).save(contents, "PNG")
    return contents.getvalue()


@pytest.fixture(scope="module")
def expected(card, made_on_card, images):
    """The classes of the image by name, and their probabilities."""
    with jax.default_device(card.first):
        predictor = Predictor.open(made_on_card.workdir)
        (probabilities,) = predictor.predict(images[:1])
    return dict(zip(predictor.info.class_names, probabilities, strict=True))


def assert_answered(answer, expected):
    found = {each["label"]: each["confidence"] for each in answer["top5"]}
    assert len(found) == 5 and answer["label"] == next(iter(found))
    values = np.array([*found.values()])
    # By default a GPU rounds the factors of products to 10 bits.
    assert_near(values, [expected[name] for name in found], 1e-2, "confidences")
    assert_near(values, sorted(expected.values())[:-6:-1], 1e-2, "the five greatest")


def test_what_the_demo_serves_answers_an_image(card, made_on_card, png, expected):
    with jax.default_device(card.first):
        classifier = Classifier(Predictor.open(made_on_card.workdir), max_batch=2)
        classifier.warm_up()
        answer = classifier(png, "crop").as_dict()
    assert_answered(answer, expected)


@pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None,
    reason="the extra 'serve' is not installed",
)
def test_the_demo_answers_over_http(tiny, made_on_card, png, expected):
    app, workdir = ROOT / "serve" / "app.py", made_on_card.workdir
    options = ["--port", "0", "--device", KIND, "--model", str(workdir)]
    process = subprocess.Popen(
        [sys.executable, str(app), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        found = re.search(r"on (http://\S+)", line)
        assert found, line + process.stderr.read()
        url = found[1] + "/gradio_api/call/predict"
        image = {"url": "data:image/png;base64," + base64.b64encode(png).decode()}
        event = json.loads(request(url, json.dumps({"data": [image, "crop"]})))
        text = request(f"{url}/{event['event_id']}")
    finally:
        process.kill()
        process.communicate()
    assert "event: complete" in text
    assert_answered(json.loads(text.split("data: ")[1])[0], expected)


def request(url, body=None):
    headers = {"Content-Type": "application/json"}
    data = None if body is None else body.encode()
    with urllib.request.urlopen(
        urllib.request.Request(url, data, headers), timeout=30
    ) as response:
        return response.read().decode()
