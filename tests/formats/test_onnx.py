import json

import numpy as np
import pytest
from format_fixtures import make_predictor, random_images

from jax_resnet.formats import onnx

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.slow  # each model is compiled, to compare with


@pytest.mark.parametrize(
    "changes", [{}, {"shortcut": "pad"}, {"channels": 1, "width": 2, "depth": 14}]
)
def test_onnx_runtime_computes_the_same(tmp_path, changes):
    predictor = make_predictor(**changes)
    path = tmp_path / "model.onnx"
    onnx.write(predictor, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = random_images(predictor)
    expected = predictor.predict(images)
    for batch in (slice(None), slice(0, 1)):
        (found,) = session.run(None, {"images": images[batch]})
        np.testing.assert_allclose(found, expected[batch], atol=1e-6)
    properties = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(properties["classes"])) == predictor.info.class_names
    assert properties["input"].startswith("uint8 [batch, height, width, channels]")
    assert float(properties["temperature"]) == predictor.temperature
    (given,) = session.get_inputs()
    shape = ["batch", *predictor.info.image_shape]
    assert (given.type, given.shape) == ("tensor(uint8)", shape)
