import json

import numpy as np
import pytest
from format_fixtures import make_predictor, random_images

from jax_resnet.formats import onnx_model

onnxruntime = pytest.importorskip("onnxruntime")


def session_of(predictor, folder):
    onnx_model.write(predictor, folder / "model.onnx")
    return onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"num_classes": 5},
        {"shortcut": "pad"},
        {"channels": 1, "width": 2},
        {"depth": 14, "temperature": 0.6},
    ],
    ids=str,
)
def test_onnx_runtime_says_the_same_in_batches_of_any_size(tmp_path, changes):
    predictor = make_predictor(**changes)
    session = session_of(predictor, tmp_path)
    images = random_images(predictor)
    expected = predictor.predict(images)
    for batch in (slice(None), slice(0, 1)):
        (found,) = session.run(None, {"images": images[batch]})
        np.testing.assert_allclose(found, expected[batch], atol=1e-6)


def test_the_metadata_name_the_classes(tmp_path):
    predictor = make_predictor(num_classes=5)
    session = session_of(predictor, tmp_path)
    properties = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(properties["classes"])) == predictor.info.class_names
    assert float(properties["temperature"]) == predictor.temperature
    (given,) = session.get_inputs()
    assert (given.type, given.shape) == ("tensor(uint8)", ["batch", 8, 8, 3])


def test_a_bfloat16_model_computes_in_float32(tmp_path):
    predictor = make_predictor(dtype="bfloat16")
    session = session_of(predictor, tmp_path)
    images = random_images(predictor)
    (found,) = session.run(None, {"images": images})
    np.testing.assert_allclose(found, predictor.in_float32().predict(images), atol=1e-6)
    assert np.abs(found - predictor.predict(images)).max() > 1e-5
