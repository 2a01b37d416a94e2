"""A model as one of the variants that ``serve_load.py`` compares.

``time NAME MODEL`` prints the median seconds of one image through the model alone;
``serve NAME`` and options of the demo serves it.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "serve"))

import app
from batching import Explain

from jax_resnet.distributed import device
from jax_resnet.predict import Predictor


def main() -> None:
    """Prints the seconds, or serves until a signal stops it."""
    what, name, *arguments = sys.argv[1:]
    computing = {"ours": lambda p: p.explain, "onnx": _onnx, "torch": _torch}[name]
    if what == "serve":
        app.main(arguments, computing=computing)
        return
    device.cache_compilations("", device.select("cpu", "--device"))
    predictor = Predictor.open(*arguments, batch_size=1)
    print(_seconds(computing(predictor), predictor.info.image_shape))


def _seconds(explain: Explain, shape: tuple[int, ...]) -> float:
    image = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    seconds = []
    for _ in range(210):
        begun = time.monotonic()
        explain(image)
        seconds.append(time.monotonic() - begun)
    return statistics.median(seconds[10:])


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
    network = ResNet(predictor.metadata.model["depth"], info.num_classes).eval()
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
