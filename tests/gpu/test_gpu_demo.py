"""The demo on a GPU gives the answers of the trained model."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from card_fixtures import DRY
from command_line import ROOT
from serve.over_http import ask, data_url, png

from jax_resnet.predict import Predictor

pytestmark = pytest.mark.gpu


def test_the_demo_answers_over_http(card, made_on_card, images):
    pytest.importorskip("gradio", reason="the extra 'serve' is not installed")
    with jax.default_device(card.first):
        predictor = Predictor.open(made_on_card)
        (probabilities,) = predictor.predict(images[:1])
    expected = dict(zip(predictor.info.class_names, probabilities, strict=True))
    kind = "cpu" if DRY else "gpu"
    app = [sys.executable, str(ROOT / "serve/app.py"), "--port=0", f"--device={kind}"]
    process = subprocess.Popen(
        [*app, f"--model={made_on_card}"], stdout=subprocess.PIPE, text=True
    )
    try:
        address = re.search(r"on (http://\S+)", process.stdout.readline())[1]
        answer = ask(address, data_url(png(images[0])))
    finally:
        process.kill()
        process.communicate()
    found = {each["label"]: each["confidence"] for each in answer["top5"]}
    assert len(found) == 5 and answer["label"] == next(iter(found))
    # By default a GPU rounds the factors of products to 10 bits.
    values = np.array([*found.values()])
    np.testing.assert_allclose(values, [expected[name] for name in found], atol=1e-2)
    greatest = sorted(expected.values())[:-6:-1]
    np.testing.assert_allclose(values, greatest, atol=1e-2)
