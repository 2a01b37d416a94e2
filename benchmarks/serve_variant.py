"""Serves a model as one of the variants that ``serve_load.py`` compares.

Prints the median seconds of one image through the model alone, then what the app says.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

STARTED = time.monotonic()
SERVE = Path(__file__).resolve().parent.parent / "serve"
VARIANTS = ["ours", "onnx", "torch"]
Explain = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def main() -> None:
    """Serves until it is killed."""
    sys.path.insert(0, str(SERVE))
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import app
    import application
    from served import Served

    from jax_resnet import device
    from jax_resnet.predict import Predictor

    name, model = sys.argv[1:]
    options = app.parse(["--port", "0", "--max-queue", "500", "--device", "cpu"])
    chosen = device.select("cpu", "--device")
    device.cache_compilations("", chosen)
    predictor = Predictor.open(model, batch_size=options.max_batch)
    explain = {"ours": lambda p: p.explain, "onnx": _onnx, "torch": _torch}[name](
        predictor
    )
    served = Served(predictor, max_batch=options.max_batch, explain=explain)
    served.warm_up()
    print(_seconds(explain, predictor.info.image_shape), flush=True)
    with app.bind(options.host, options.port) as listener:
        application.serve(served, listener, options, started=STARTED, grace=1)


def _seconds(explain: Explain, shape: tuple[int, ...]) -> float:
    image = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    seconds = []
    for _ in range(100):
        begun = time.monotonic()
        explain(image)
        seconds.append(time.monotonic() - begun)
    return statistics.median(seconds)


def _onnx(predictor: Any) -> Explain:
    from jax_resnet.formats import onnx_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx_model.write(predictor, path)
        probabilities = onnx_model.load(path, predictor)
    no_maps = np.zeros((1, 8, 8, predictor.info.num_classes), np.float32)
    return lambda images: (
        probabilities(images),
        np.broadcast_to(no_maps, (len(images), *no_maps.shape[1:])),
    )


def _torch(predictor: Any) -> Explain:
    import torch
    from torch_resnet import ResNet, state_dict

    info = predictor.info
    network = ResNet(predictor.record.model["depth"], info.num_classes).eval()
    network.load_state_dict(state_dict(predictor.params, predictor.batch_stats))
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (info.mean, info.std))
    no_maps = np.zeros((1, 8, 8, predictor.info.num_classes), np.float32)

    @torch.inference_mode()
    def explain(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        logits = network((pixels - mean) / std)
        probabilities = torch.softmax(logits / predictor.temperature, dim=1)
        maps = np.broadcast_to(no_maps, (len(images), *no_maps.shape[1:]))
        return probabilities.numpy(), maps

    return explain


if __name__ == "__main__":
    main()
