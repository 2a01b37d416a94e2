"""A model on images other than those of the split: mirrored, or corrupted."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jax_resnet.data import Split
from jax_resnet.evaluation.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from jax_resnet.evaluation.metrics import evaluate, mean_log_probabilities
from jax_resnet.predict import Predictor

_BATCH = 1000  # images corrupted at a time; the random ones depend on it


def flipped(
    predictor: Predictor, split: Split, logits: Float[np.ndarray, "n classes"]
) -> dict[str, float]:
    """Top-1, top-5 and loss of the mean probability of each image and its mirror image.

    Args:
        predictor: the model.
        split: the images.
        logits: of the images as they are.
    """
    mirrored = predictor.logits(np.ascontiguousarray(split.images[:, :, ::-1]))
    mean = mean_log_probabilities([logits, mirrored])
    figures = evaluate(mean, split.labels, info=predictor.info)
    return {"top1": figures.top1, "top5": figures.top5, "loss": figures.loss}


def corrupted(predictor: Predictor, split: Split, n: int) -> dict[str, Any]:
    """Top-1 of the first n images under every corruption, at every strength."""
    images, labels = split.images[:n], split.labels[:n]

    def top1(images: np.ndarray) -> float:
        return float(np.mean(predictor.logits(images).argmax(axis=1) == labels))

    results: dict[str, list[float]] = {}
    for number, name in enumerate(CORRUPTIONS):
        results[name] = []
        for strength in STRENGTHS:
            key = jax.random.key(10 * number + strength)
            parts = [
                np.asarray(
                    corrupt(
                        jax.random.fold_in(key, start),
                        jnp.asarray(images[start : start + _BATCH]),
                        name,
                        strength,
                    )
                )
                for start in range(0, n, _BATCH)
            ]
            results[name].append(top1(np.concatenate(parts)))
            print(
                f"{name} {strength}: {100 * results[name][-1]:.2f} % top-1", flush=True
            )
    return {"n": n, "clean_top1": top1(images), "top1": results}
