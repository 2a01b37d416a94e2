"""A restored model: from uint8 images to class probabilities."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float, Float32, UInt8

from jax_resnet.augment.compose import normalize
from jax_resnet.checkpoint import model_folder, store
from jax_resnet.checkpoint.digests import digest_arrays
from jax_resnet.checkpoint.metadata import Architecture, RunMetadata
from jax_resnet.checkpoint.temperature import read_temperature
from jax_resnet.distributed import device
from jax_resnet.model import resnet
from jax_resnet.model.weights import from_arrays, merge, split, to_arrays
from jax_resnet.runtime.errors import UserError

# Images in a call, on an accelerator and on a CPU, whose caches then hold the
# activations (``benchmarks/evaluation.py``).
_FAST = (500, 32)


class Predictor:
    """A trained model, with what its checkpoint says about it.

    Attributes:
        metadata: of the run that trained it.
        info: of the data set that it was trained on.
        step: number of training steps that it has taken.
        temperature: that its logits are divided by for probabilities.
        source: the directory that it was read from, if it was.

    Args:
        metadata: of a run.
        arrays: parameters and statistics as the checkpoint names them.
        step: of the checkpoint.
        temperature: from the evaluation of the model.
        batch_size: images in a call of the model; it changes speed and memory alone,
            and by default is what is fast on the device.
        source: where it was read from.

    Raises:
        UserError: if the arrays are not those of the architecture.
    """

    def __init__(
        self,
        metadata: RunMetadata,
        arrays: dict[str, np.ndarray],
        *,
        step: int,
        temperature: float = 1.0,
        batch_size: int | None = None,
        source: Path | None = None,
    ):
        self.metadata = metadata
        self.info = info = metadata.dataset
        self.step = step
        self.temperature = temperature
        self.source = source
        on_cpu = device.current().platform == "cpu"
        self._batch_size = batch_size or _FAST[on_cpu]
        self._at_once = len(os.sched_getaffinity(0)) if on_cpu else 2  # batches
        _check_size(metadata.model, arrays)
        # Shapes and dtypes alone: the numbers are in the arrays.
        graphdef, params, batch_stats = jax.eval_shape(
            lambda: split(resnet.initialize(None, **metadata.model))
        )
        template = {"state": {"params": params, "batch_stats": batch_stats}}
        self._weights = from_arrays(template, arrays)["state"]

        @jax.jit
        def logits(weights: Any, images: jax.Array) -> jax.Array:
            normalized = normalize(images, mean=info.mean, std=info.std)
            return _apply(graphdef, weights, normalized)

        @jax.jit
        def explain(weights: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
            network = merge(graphdef, weights["params"], weights["batch_stats"])
            features = network.features(
                normalize(images, mean=info.mean, std=info.std)
            ).astype(jnp.float32)
            maps = features @ network.head.kernel[...]
            return network.head(features.mean(axis=(1, 2))), maps

        self._network = partial(_apply, graphdef)
        self._logits = partial(logits, self._weights)
        self._explain = partial(explain, self._weights)

    @classmethod
    def restore(
        cls, workdir: Path, which: str = "best", *, batch_size: int | None = None
    ) -> "Predictor":
        """The model of a run's checkpoint: ``best``, ``latest`` or a step.

        Raises:
            UserError: if there is none, or it is damaged.
        """
        chosen = store.select(workdir, which)
        metadata = RunMetadata.from_json(chosen.metadata)
        arrays = chosen.arrays("model")
        return cls(
            metadata,
            arrays,
            step=chosen.step,
            temperature=read_temperature(workdir, chosen.step),
            batch_size=batch_size,
            source=workdir,
        )

    @classmethod
    def open(
        cls, path: str | Path, which: str = "best", *, batch_size: int | None = None
    ) -> "Predictor":
        """The model of a run directory, or of a folder that was exported.

        Args:
            path: of a workdir, or of a folder with ``model.safetensors``.
            which: of a run's checkpoints; a folder has one model.
            batch_size: images in a call of the model.

        Raises:
            UserError: if there is none, or it is damaged.
        """
        path = Path(path)
        if not model_folder.is_model_folder(path):
            return cls.restore(path, which, batch_size=batch_size)
        stored = model_folder.read(path)
        if which not in ("best", "latest", str(stored.step)):
            raise UserError(
                f"--checkpoint {which} is not in {str(path)!r}: the folder holds one "
                f"model, of step {stored.step}"
            )
        return cls(
            stored.metadata,
            dict(stored.arrays),
            step=stored.step,
            temperature=stored.temperature,
            batch_size=batch_size,
            source=path,
        )

    @property
    def stored(self) -> model_folder.StoredModel:
        """What the model is made of, in host memory."""
        arrays = to_arrays({"state": self._weights})
        return model_folder.StoredModel(
            self.metadata, arrays, self.step, self.temperature
        )

    def describe(self) -> str:
        """Where it is from, and a digest of its weights."""
        digest = digest_arrays(dict(self.stored.arrays))[:12]
        title = self.metadata.run.title
        return f"{self.source}: {title}, step {self.step}, SHA-256 {digest}"

    @property
    def params(self) -> dict[str, np.ndarray]:
        """Float32 parameters by dotted name, such as ``head.kernel``."""
        return to_arrays(self._weights["params"])

    @property
    def batch_stats(self) -> dict[str, np.ndarray]:
        """Float32 running statistics of BatchNorm, likewise."""
        return to_arrays(self._weights["batch_stats"])

    def in_float32(self) -> "Predictor":
        """The same weights, computing in float32 whatever the run computed in."""
        metadata = self.metadata
        if metadata.model["dtype"] == "float32":
            return self
        architecture = Architecture(**{**metadata.model, "dtype": "float32"})
        return Predictor(
            replace(metadata, model=architecture),
            dict(self.stored.arrays),
            step=self.step,
            temperature=self.temperature,
            batch_size=self._batch_size,
            source=self.source,
        )

    def probabilities(
        self, images: UInt8[Array, "n h w c"]
    ) -> Float32[Array, "n classes"]:
        """What :meth:`predict` returns, as a function that JAX can transform."""
        return jax.nn.softmax(self._logits(images) / self.temperature)

    def forward(self, images: Float32[Array, "n h w c"]) -> Float32[Array, "n classes"]:
        """Logits of normalised images, as a function that JAX can transform.

        The weights are constants of what it becomes part of.
        """
        return self._network(jax.tree.map(np.asarray, self._weights), images)

    def logits(
        self, images: UInt8[np.ndarray, "n h w c"]
    ) -> Float[np.ndarray, "n classes"]:
        """Float32 logits of any number of images.

        Raises:
            UserError: if the images have another shape than the model's.
        """
        (logits,) = self._in_batches(lambda batch: (self._logits(batch),), images)
        return logits

    def explain(
        self, images: UInt8[np.ndarray, "n h w c"]
    ) -> tuple[Float[np.ndarray, "n classes"], Float[np.ndarray, "n h4 w4 classes"]]:
        """Class probabilities, and where in the images they come from.

        The class-activation maps (Zhou et al. 2016, equation 2) are float32, at a
        quarter of the resolution: their mean over the positions is a class's logit,
        less its bias.

        Raises:
            UserError: if the images have another shape than the model's.
        """
        logits, maps = self._in_batches(self._explain, images)
        return self._probabilities_of(logits), maps

    def predict(
        self, images: UInt8[np.ndarray, "n h w c"]
    ) -> Float[np.ndarray, "n classes"]:
        """Class probabilities of any number of images, temperature-scaled."""
        return self._probabilities_of(self.logits(images))

    def _probabilities_of(self, logits: np.ndarray) -> np.ndarray:
        return scipy.special.softmax(logits / self.temperature, axis=-1)

    def _in_batches(
        self, function: Callable[[Any], tuple[jax.Array, ...]], images: np.ndarray
    ) -> list[np.ndarray]:
        if images.shape[1:] != self.info.image_shape:
            raise UserError(
                f"the model takes images of shape {self.info.image_shape}, "
                f"not {images.shape[1:]}"
            )
        # Few sizes, because each is compiled.
        size = min(self._batch_size, 1 << max(0, len(images) - 1).bit_length())

        def compute(start: int) -> list[np.ndarray]:
            batch = images[start : start + size]
            padded = np.pad(batch, [(0, size - len(batch)), (0, 0), (0, 0), (0, 0)])
            return [np.asarray(part) for part in function(padded)]

        starts = range(0, max(1, len(images)), size)
        if len(starts) == 1:
            outputs = [compute(0)]
        else:
            # On a CPU the threads that share an operation wait for each other, less so
            # if another batch is there; on an accelerator the next one is queued.
            with ThreadPoolExecutor(self._at_once) as pool:
                outputs = list(pool.map(compute, starts))
        return [
            np.concatenate(parts)[: len(images)] for parts in zip(*outputs, strict=True)
        ]


def _apply(graphdef: Any, weights: Any, images: jax.Array) -> jax.Array:
    return merge(graphdef, weights["params"], weights["batch_stats"])(images)


def _check_size(architecture: Architecture, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuses a model much larger than its arrays, before it is built to compare."""
    blocks, features = (architecture["depth"] - 2) // 2, 64 * architecture["width"]
    last = arrays.get(f"state.params.blocks.{blocks - 1}.conv2.conv.kernel")
    if last is None or last.shape != (3, 3, features, features):
        raise UserError(
            f"another model: depth {architecture['depth']} and width "
            f"{architecture['width']} are not those of its arrays"
        )
