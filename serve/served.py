"""A restored model, ready to answer for the demo."""

import json
from pathlib import Path
from typing import Any

from batching import Batcher, Explain
from result import Result, result_of
from uploads import Fit, fit, read

from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError

HERE = Path(__file__).parent


class Served:
    """Answers for images of any size.

    Attributes:
        predictor: the model, and what its checkpoint says about it.
        answer: answers for one image of the model's shape.

    Args:
        predictor: the model.
        max_batch: images in a call of it.
        explain: computes in its place, for comparisons.
    """

    def __init__(
        self, predictor: Predictor, *, max_batch: int, explain: Explain | None = None
    ):
        self.predictor = predictor
        self.answer = Batcher(explain or predictor.explain, max_batch=max_batch)
        info = predictor.info
        # What is padded looks to the model like the mean of its training images.
        self._border = bytes(round(255 * mean) for mean in info.mean)

    def warm_up(self) -> None:
        """Compiles the model, so that nobody waits for it later."""
        self.answer.warm_up(self.predictor.info.image_shape)

    def __call__(self, source: Path | bytes, how: Fit) -> Result:
        """The result for an upload.

        Raises:
            UnusableImageError: if it is no image.
        """
        info = self.predictor.info
        seen = read(
            source, lambda i: fit(i, info.image_shape, how, border=self._border)
        )
        probabilities, maps = self.answer(seen)
        return result_of(
            seen,
            probabilities,
            maps,
            class_names=info.class_names,
            superclass_names=info.superclass_names,
            superclass_of=info.superclass_of,
        )

    @property
    def title(self) -> str:
        """The model in a few words."""
        metadata = self.predictor.metadata
        return f"ResNet-{metadata.model['depth']} on {metadata.dataset.name}"

    @property
    def accuracy(self) -> dict[str, Any] | None:
        """Top-1 and top-5 at the end of the model's epoch; None if none was measured.

        ``selected`` says whether that split chose the epoch.
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
            "selected": epoch["epoch"] != metadata.run.epochs,
        }


def default_model() -> Path:
    """The model beside the app, or the most accurate of the project's results.

    Raises:
        UserError: if there is none, saying how to make one.
    """
    if (beside := HERE / "model").is_dir():
        return beside
    results = HERE.parent / "results"
    kept = [p for p in results.glob("*") if (p / "checkpoints").is_dir()]
    if kept:
        return max(kept, key=_accuracy_of)
    raise UserError(
        "there is no model yet: python -m jax_resnet.train --config configs/smoke.py "
        "trains one in a minute, python serve/app.py --model runs/smoke serves it"
    )


def _accuracy_of(workdir: Path) -> float:
    try:
        return float(
            json.loads((workdir / "summary.json").read_text())["best"]["val_top1"]
        )
    except (OSError, ValueError, LookupError, TypeError):
        return 0.0


def report_of(predictor: Predictor) -> tuple[dict[str, Any], Path] | None:
    """The evaluation that lies beside a model, and the folder of its pictures.

    That of another step is not its evaluation. The test split's comes first.
    """
    if predictor.source is None:
        return None
    files = predictor.source.glob("evaluation-*.json")
    for file in sorted(files, key=lambda f: (f.stem != "evaluation-test", f)):
        try:
            report = json.loads(file.read_text())
            if report["step"] == predictor.step and report["per_class"]:
                return report, file.with_suffix("")
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return None
