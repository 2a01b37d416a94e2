"""A model as one ONNX file, for ONNX Runtime and whatever else reads the format."""

import json
from pathlib import Path

import numpy as np

from jax_resnet import __version__
from jax_resnet.formats import Probabilities
from jax_resnet.formats.output import write_file
from jax_resnet.predict import Predictor


def write(predictor: Predictor, path: Path) -> None:
    """Writes the graph; its metadata has the class names as JSON under ``classes``.

    Raises:
        OSError: if the file cannot be written.
    """
    import onnx

    from jax_resnet.formats import onnx_graph

    metadata, info = predictor.metadata, predictor.info
    model = onnx_graph.build(
        metadata.model,
        predictor.params | predictor.batch_stats,
        info,
        temperature=predictor.temperature,
        metadata={
            "classes": json.dumps(info.class_names),
            "dataset": info.name,
            "title": metadata.run.title,
            "step": str(predictor.step),
            "temperature": str(predictor.temperature),
            "jax_resnet": __version__,
        },
    )
    onnx.checker.check_model(model, full_check=True)
    write_file(path, model.SerializeToString())


def load(path: Path, predictor: Predictor) -> Probabilities:
    """The model as ONNX Runtime runs it, for comparison."""
    import onnxruntime

    from jax_resnet.formats.onnx_graph import INPUT, OUTPUT

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([OUTPUT], {INPUT: images})[0])
