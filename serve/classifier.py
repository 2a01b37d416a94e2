"""The model of the demo: from an upload of any size to a prediction."""

import functools
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from prediction import Prediction
from uploads import Fit, read

from jax_resnet.checkpoint.best_run import most_accurate_run
from jax_resnet.data.labels import top_classes
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError

HERE = Path(__file__).parent


class Classifier:
    """Classifies uploads, from many threads at a time."""

    def __init__(self, predictor: Predictor):
        self.predictor = predictor
        self._lock = threading.Lock()  # an image keeps all cores busy
        # To the model, padding looks like the mean of its training images.
        self._border = tuple(round(255 * mean) for mean in predictor.info.mean)

    def warm_up(self) -> None:
        """Compiles the model."""
        shape = 1, *self.predictor.info.image_shape
        self.predictor.explain(np.zeros(shape, np.uint8))

    def __call__(self, source: Path | bytes, fit: Fit) -> Prediction:
        """Classifies an upload: an image file, or its contents.

        ``fit`` is how an image that is not square is made so. Raises
        :class:`UnusableImageError` if it cannot be read as an image.
        """
        started = time.perf_counter()
        info = self.predictor.info
        image = read(source, info.image_shape, fit, border=self._border)
        with self._lock:
            (probabilities,), (maps,) = self.predictor.explain(image[None])
        classes, order = top_classes(probabilities, info)
        maps = np.moveaxis(maps[:, :, order], -1, 0)
        return Prediction(image, classes, maps, time.perf_counter() - started)

    @property
    def title(self) -> str:
        """The model's name, such as ``ResNet-56 on cifar100``."""
        metadata = self.predictor.metadata
        return f"ResNet-{metadata.model['depth']} on {metadata.dataset.name}"

    @property
    def accuracy(self) -> dict[str, Any] | None:
        """Validation accuracy after the model's epoch; None if it is unknown.

        ``selected`` is true of the best epoch, which was selected on the same split.
        """
        metadata = self.predictor.metadata
        if (epoch := metadata.epoch_at(self.predictor.step)) is None:
            return None
        return {
            "top1": epoch["val_top1"],
            "top5": epoch["val_top5"],
            "split": metadata.run.eval_name,
            "images": metadata.run.n_eval,
            "epoch": epoch["epoch"],
            "epochs": metadata.run.epochs,
            "selected": metadata.was_selected(epoch),
        }

    @functools.cached_property
    def evaluation(self) -> tuple[dict[str, Any], Path | None] | None:
        """The evaluation report beside the model, and its figure of mistakes.

        The test split's report is preferred. Reports of other checkpoints are ignored.
        """
        if self.predictor.source is None:
            return None
        files = self.predictor.source.glob("evaluation-*.json")
        for file in sorted(files, key=lambda f: (f.stem != "evaluation-test", f)):
            report = _read_json(file)
            if report.get("step") == self.predictor.step and report.get("per_class"):
                mistakes = file.with_suffix("") / "mistakes.png"
                return report, mistakes if mistakes.is_file() else None
        return None


def default_model() -> Path:
    """Returns the model beside the app, or else the most accurate one in ``results/``.

    Raises UserError if there is none.
    """
    if (beside := HERE / "model").is_dir():
        return beside
    if run := most_accurate_run():
        return run
    raise UserError(
        "there is no model yet: python -m jax_resnet.train --config smoke trains "
        "one in a minute, and --model runs/smoke serves it"
    )


def _read_json(path: Path) -> dict[str, Any]:
    """Reads an object from a file; an empty one if there is none, or it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
