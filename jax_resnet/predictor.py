"""Class probabilities of images from a trained model."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float, Float32, UInt8

from jax_resnet.augment.color import normalize
from jax_resnet.checkpoint import model_folder, store
from jax_resnet.checkpoint.digests import digest_arrays
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.checkpoint.model_folder import StoredModel
from jax_resnet.checkpoint.temperature import read_temperature
from jax_resnet.distributed import device
from jax_resnet.model import resnet
from jax_resnet.model.weights import Weights, from_arrays, merge, split, to_arrays
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.jax_settings import fixed_settings
from jax_resnet.runtime.paths import user_path
from jax_resnet.runtime.text import printable

Images = UInt8[np.ndarray | jax.Array, "n h w c"]
# The fastest batch sizes in benchmarks/evaluation.py. On a CPU, activations of larger
# batches do not fit into the caches.
_BATCH_SIZES = {"gpu": 500, "cpu": 32}


class Predictor:
    """A trained model that classifies uint8 images.

    :meth:`open` makes one from a run directory or an exported folder.
    :meth:`predict`, :meth:`logits` and :meth:`explain` take a NumPy or JAX array of any
    number of images, uint8 from 0 to 255, RGB, and normalise them as training did. For
    anything else they raise UserError, which says what to do.

    Args:
        stored: the weights in host memory, with the metadata of the training run.
        batch_size: images per call of the network; affects speed and memory only. By
            default it is what is fast on the device.
        source: the directory that the model was read from.

    Raises:
        UserError: if the arrays do not fit the architecture, or the batch size is less
            than 1.
    """

    @fixed_settings()
    def __init__(
        self,
        stored: StoredModel,
        *,
        batch_size: int | None = None,
        source: Path | None = None,
    ):
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {batch_size}")
        self.stored = stored
        self.metadata = stored.metadata
        self.info = stored.metadata.dataset  # that the model was trained on
        self.step = stored.step
        self.temperature = stored.temperature  # divides the logits before the softmax
        self.source = source
        on_cpu = device.current().platform == "cpu"
        self._batch_size = batch_size or _BATCH_SIZES["cpu" if on_cpu else "gpu"]
        self._threads = len(os.sched_getaffinity(0)) if on_cpu else 2
        # Without numbers: those are in the stored arrays.
        self._graphdef, params, batch_stats = jax.eval_shape(
            lambda: split(resnet.initialize(None, **stored.metadata.model))
        )
        template = {"state": {"params": params, "batch_stats": batch_stats}}
        self._weights = Weights(**from_arrays(template, stored.arrays)["state"])
        self._logits = partial(jax.jit(self._compute_logits), self._weights)
        self._explain = partial(jax.jit(self._compute_explanation), self._weights)

    @classmethod
    def open(
        cls,
        path: str | Path,
        checkpoint: str = "best",
        *,
        batch_size: int | None = None,
    ) -> "Predictor":
        """Opens a checkpoint of a run directory, or the model of an exported folder.

        The checkpoint is ``best``, ``latest`` or a step. Raises UserError if there is
        no such model, or it is damaged.
        """
        path = user_path(path)
        if model_folder.is_model_folder(path):
            stored = model_folder.read(path)
            if checkpoint not in ("best", "latest", str(stored.step)):
                raise UserError(
                    f"--checkpoint {checkpoint} is not in {str(path)!r}: the folder "
                    f"holds one model, of step {stored.step}"
                )
        else:
            chosen = store.select(path, checkpoint)
            stored = StoredModel(
                RunMetadata.from_json(chosen.metadata),
                chosen.arrays("model"),
                chosen.step,
                read_temperature(path, chosen.step),
            )
        return cls(stored, batch_size=batch_size, source=path)

    @property
    def params(self) -> dict[str, np.ndarray]:
        """Float32 parameters by dotted name, such as ``head.kernel``."""
        return to_arrays(self._weights.params)

    @property
    def batch_stats(self) -> dict[str, np.ndarray]:
        """Float32 running statistics of BatchNorm by dotted name."""
        return to_arrays(self._weights.batch_stats)

    def describe(self) -> str:
        """Returns the source, title, step and weights' digest in one printable line."""
        digest = digest_arrays(self.stored.arrays)[:12]
        title = self.metadata.run.title
        return printable(f"{self.source}: {title}, step {self.step}, SHA-256 {digest}")

    def predict(self, images: Images) -> Float[np.ndarray, "n classes"]:
        """Returns temperature-scaled class probabilities, float32, of uint8 images."""
        return self._softmax(self.logits(images))

    def logits(self, images: Images) -> Float[np.ndarray, "n classes"]:
        """Returns the float32 logits of uint8 images."""
        (logits,) = self._in_batches(lambda batch: (self._logits(batch),), images)
        return logits

    def explain(
        self, images: Images
    ) -> tuple[Float[np.ndarray, "n classes"], Float[np.ndarray, "n h4 w4 classes"]]:
        """Returns class probabilities and class-activation maps.

        The maps (Zhou et al. 2016, equation 2) are float32 and have a quarter of the
        image's resolution. The mean of a class's map is its logit without the bias.
        """
        logits, maps = self._in_batches(self._explain, images)
        return self._softmax(logits), maps

    def probabilities(
        self, images: UInt8[Array, "n h w c"]
    ) -> Float32[Array, "n classes"]:
        """Computes what :meth:`predict` does, under JAX transformations.

        Raises UserError if the images are not the model's.
        """
        if images.dtype != jnp.uint8:
            raise UserError(f"images are {images.dtype}: give uint8 from 0 to 255")
        _check_shape(images.shape, self.info.image_shape)
        return jax.nn.softmax(self._logits(images) / self.temperature)

    def forward(self, images: Float32[Array, "n h w c"]) -> Float32[Array, "n classes"]:
        """Computes logits of normalised images, under JAX transformations.

        The weights become constants of the transformed function. Raises UserError if
        the images are not floats.
        """
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise UserError(f"images are {images.dtype}: give normalised floats")
        return self._network(jax.tree.map(np.asarray, self._weights))(images)

    def _network(self, weights: Weights) -> resnet.ResNet:
        return merge(self._graphdef, weights.params, weights.batch_stats)

    def _normalize(self, images: jax.Array) -> jax.Array:
        return normalize(images, mean=self.info.mean, std=self.info.std)

    def _compute_logits(self, weights: Weights, images: jax.Array) -> jax.Array:
        return self._network(weights)(self._normalize(images))

    def _compute_explanation(
        self, weights: Weights, images: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        network = self._network(weights)
        features = network.features(self._normalize(images)).astype(jnp.float32)
        maps = features @ network.head.kernel[...]
        return network.head(features.mean(axis=(1, 2))), maps

    def _softmax(self, logits: np.ndarray) -> np.ndarray:
        return scipy.special.softmax(logits / self.temperature, axis=-1)

    def _in_batches(
        self, function: Callable[[Any], tuple[jax.Array, ...]], given: Images
    ) -> list[np.ndarray]:
        images = _checked(given, self.info.image_shape)
        # Each batch size is compiled, so small inputs are padded to a power of two.
        size = min(self._batch_size, 1 << max(0, len(images) - 1).bit_length())

        @fixed_settings()
        def compute(start: int) -> list[np.ndarray]:
            batch = images[start : start + size]
            padded = np.pad(batch, [(0, size - len(batch)), (0, 0), (0, 0), (0, 0)])
            return [np.asarray(part) for part in function(padded)]

        if len(images) <= size:
            return [part[: len(images)] for part in compute(0)]
        # On a CPU, several batches at a time keep all cores busy. On a GPU, the next
        # batch is copied while one is computed.
        with ThreadPoolExecutor(self._threads) as pool:
            outputs = list(pool.map(compute, range(0, len(images), size)))
        return [
            np.concatenate(parts)[: len(images)] for parts in zip(*outputs, strict=True)
        ]


def _checked(images: Any, shape: tuple[int, int, int]) -> np.ndarray:
    """Returns images as a NumPy array; raises UserError if they are not the model's."""
    if isinstance(images, jax.core.Tracer):
        raise UserError("under jax.jit and its like, call probabilities(images)")
    if isinstance(images, list | tuple):
        raise UserError(f"images are a {type(images).__name__}: give np.stack(images)")
    if not isinstance(images, np.ndarray | jax.Array):
        kind, is_file = type(images).__name__, isinstance(images, str | bytes | Path)
        remedy = (
            f"read_image(images, {shape})[None]" if is_file else "np.asarray(images)"
        )
        raise UserError(f"images are of type {kind}: give an array, as by {remedy}")
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise UserError(
            f"images are {images.dtype}: give uint8 from 0 to 255, {_as_uint8(images)}"
        )
    _check_shape(images.shape, shape)
    return images


def _check_shape(found: tuple[Any, ...], shape: tuple[int, int, int]) -> None:
    # An exported program has a symbol in the place of the number of images.
    if found[1:] != shape:
        raise UserError(
            f"images have the shape {found}, and the model takes [n, "
            f"{', '.join(map(str, shape))}]: {_reshaped(found, shape)}"
        )


def _as_uint8(images: np.ndarray) -> str:
    """Says how to make images uint8."""
    if images.dtype.kind not in "fiu" or not images.size:
        return "the levels of pixels"
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):
        return "neither scaled nor normalised: the model does that itself"
    if images.dtype.kind == "f":
        levels = "(255 * images)" if high <= 1 else "images"
        return f"as by {levels}.round().astype('uint8')"
    return "as by images.astype('uint8')"


def _reshaped(found: tuple[Any, ...], shape: tuple[int, int, int]) -> str:
    """Says how to bring an array of images into the shape that the model takes."""
    height, width, channels = shape
    if len(found) == 3 and found[2] == channels:
        return "a batch dimension is missing, add one: images[None]"
    if found[1:] == (height, width) and channels == 1:
        return "the channel is missing, add it: images[..., None]"
    if len(found) != 4:
        return "give height, width and channels of each of n images"
    if found[3] != channels and found[1] == channels:
        return "channels come last, as by images.transpose(0, 2, 3, 1)"
    if found[3] != channels:
        mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels, "...")
        return f"convert each to {channels} channels, as by Pillow's convert({mode!r})"
    return f"resize to {height}x{width}, as by Pillow's resize(({width}, {height}))"
