"""A file of StableHLO, which needs nothing but JAX."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jax_resnet.formats import Probabilities
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.files import write_atomically

_SOURCE_LOCATIONS = "jax_traceback_in_locations_limit"


def write(predictor: Predictor, path: Path) -> None:
    """Writes the function from uint8 images [b, h, w, c] to float32 probabilities.

    It takes batches of any size and runs on CPU and CUDA.
    """
    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *predictor.info.image_shape), jnp.uint8)
    locations = getattr(jax.config, _SOURCE_LOCATIONS)
    jax.config.update(_SOURCE_LOCATIONS, 0)  # the file has no paths of this machine
    try:
        # By default a GPU computes in TF32, to three digits.
        with jax.default_matmul_precision("highest"):
            function = jax.jit(predictor.probabilities)
            exported = export.export(function, platforms=("cpu", "cuda"))(images)
    finally:
        jax.config.update(_SOURCE_LOCATIONS, locations)
    write_atomically(path, bytes(exported.serialize()))


def load(path: Path, _: Predictor) -> Probabilities:
    """Loads the function."""
    exported = export.deserialize(bytearray(path.read_bytes()))
    return lambda images: np.asarray(exported.call(images))
