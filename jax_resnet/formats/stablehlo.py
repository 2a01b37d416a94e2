"""A model as StableHLO, for JAX alone: ``jax.export`` with a symbolic batch."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jax_resnet.formats import Probabilities
from jax_resnet.formats.output import write_file
from jax_resnet.predict import Predictor

PLATFORMS = ("cpu", "cuda")


def write(predictor: Predictor, path: Path) -> None:
    """Writes the function from uint8 images [b, h, w, c] to float32 probabilities.

    It runs on any batch of at least one image, on CPU and CUDA.

    Raises:
        OSError: if the file cannot be written.
    """
    (batch,) = export.symbolic_shape("b")
    shape = (batch, *predictor.info.image_shape)
    # Otherwise a GPU computes in TF32, and says something else in the third digit.
    with jax.default_matmul_precision("highest"), _without_source_locations():
        exported = export.export(jax.jit(predictor.probabilities), platforms=PLATFORMS)(
            jax.ShapeDtypeStruct(shape, jnp.uint8)
        )
    write_file(path, bytes(exported.serialize()))


@contextlib.contextmanager
def _without_source_locations() -> Iterator[None]:
    """Keeps the paths of this machine out of what is lowered."""
    option = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, option)
    jax.config.update(option, 0)
    try:
        yield
    finally:
        jax.config.update(option, before)


def load(path: Path, predictor: Predictor) -> Probabilities:
    """The function in a file, for comparison."""
    exported = export.deserialize(bytearray(path.read_bytes()))
    return lambda images: np.asarray(exported.call(images))
