"""A file for ONNX Runtime, and other programs that read ONNX."""

import json
from pathlib import Path

import numpy as np

from jax_resnet import __version__
from jax_resnet.formats import Probabilities
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.files import write_atomically


def write(predictor: Predictor, path: Path) -> None:
    """Writes the graph; its metadata have the class names as JSON under ``classes``."""
    import onnx

    from jax_resnet.formats import onnx_graph

    model = onnx_graph.build(
        predictor.params | predictor.batch_stats,
        predictor.info,
        depth=predictor.metadata.model["depth"],
        temperature=predictor.temperature,
    )
    metadata = {
        "input": "uint8 [batch, height, width, channels], RGB from 0 to 255",
        "classes": json.dumps(predictor.info.class_names),
        "dataset": predictor.info.name,
        "title": predictor.metadata.run.title,
        "step": str(predictor.step),
        "temperature": str(predictor.temperature),
        "jax_resnet": __version__,
    }
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, model.SerializeToString())


def load(path: Path, _: Predictor) -> Probabilities:
    """Loads the graph into ONNX Runtime, on the CPU."""
    import onnxruntime

    # Of the content, because ONNX Runtime takes no names but UTF-8.
    session = onnxruntime.InferenceSession(
        path.read_bytes(), providers=["CPUExecutionProvider"]
    )
    return lambda images: np.asarray(session.run(None, {"images": images})[0])
