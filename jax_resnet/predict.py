"""A restored model: from uint8 images to class probabilities."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from jax_resnet import checkpoint, model
from jax_resnet import state as states
from jax_resnet.augment import normalize
from jax_resnet.errors import UserError


class Predictor:
    """A trained model, with what its checkpoint says about it.

    Attributes:
        metadata: the checkpoint's: ``model``, ``dataset``, ``history``, ``run``, ...
        class_names: in the order of the logits.
        image_shape: of one image, ``(h, w, c)``.

    Args:
        architecture: arguments of :class:`~jax_resnet.model.ResNet`.
        arrays: parameters and statistics as the checkpoint names them.
        metadata: of the checkpoint.
        batch_size: images in a call of the model; it changes speed and memory alone.

    Raises:
        UserError: if the arrays are not those of the architecture.
    """

    def __init__(
        self,
        architecture: dict[str, Any],
        arrays: dict[str, np.ndarray],
        metadata: dict[str, Any],
        *,
        batch_size: int = 500,
    ):
        self.metadata = metadata
        dataset = metadata["dataset"]
        self.class_names: tuple[str, ...] = tuple(dataset["class_names"])
        self.image_shape: tuple[int, int, int] = tuple(dataset["image_shape"])
        self._batch_size = batch_size
        graphdef, params, batch_stats = states.split(
            model.initialize(jax.random.key(0), **architecture)
        )
        template = {"state": {"params": params, "batch_stats": batch_stats}}
        self._weights = states.from_arrays(template, arrays)["state"]

        @jax.jit
        def logits(weights: Any, images: jax.Array) -> jax.Array:
            network = states.merge(graphdef, weights["params"], weights["batch_stats"])
            return network(normalize(images, mean=dataset["mean"], std=dataset["std"]))

        self._logits = partial(logits, self._weights)

    @classmethod
    def restore(
        cls, workdir: Path, which: str = "best", *, batch_size: int = 500
    ) -> "Predictor":
        """The model of a run's checkpoint: ``best``, ``latest`` or a step.

        Raises:
            UserError: if there is none, or it is damaged.
        """
        path, metadata = checkpoint.select(workdir, which)
        arrays = checkpoint.load(path, metadata, "model")
        return cls(metadata["model"], arrays, metadata, batch_size=batch_size)

    def logits(
        self, images: UInt8[np.ndarray, "n h w c"]
    ) -> Float[np.ndarray, "n classes"]:
        """Float32 logits of any number of images.

        Raises:
            UserError: if the images have another shape than the model's.
        """
        if images.shape[1:] != self.image_shape:
            raise UserError(
                f"the model takes images of shape {self.image_shape}, "
                f"not {images.shape[1:]}"
            )
        size = min(self._batch_size, len(images))
        outputs = []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            missing = size - len(batch)
            padded = np.pad(batch, [(0, missing), (0, 0), (0, 0), (0, 0)])
            outputs.append(self._logits(jnp.asarray(padded))[: len(batch)])
        return np.concatenate([np.asarray(output) for output in outputs])

    def predict(
        self, images: UInt8[np.ndarray, "n h w c"]
    ) -> Float[np.ndarray, "n classes"]:
        """Class probabilities of any number of images."""
        logits = self.logits(images)
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return exponentials / exponentials.sum(axis=-1, keepdims=True)
