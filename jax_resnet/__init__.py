"""Trains and uses ResNets for small images, in pure JAX and Flax.

    import jax_resnet

    run = jax_resnet.fit("smoke", "runs/smoke")  # trains, or resumes
    model = jax_resnet.load("runs/smoke")  # or load(run)
    probabilities = model.predict(images)  # uint8 [n, h, w, c] to float32 [n, classes]
    report = jax_resnet.evaluate_run("runs/smoke")  # top1, top5, loss, ...

Whatever you have to change is a ``jax_resnet.UserError``, which says what to do.
docs/api.md explains more. The commands are ``python -m jax_resnet.train`` and its like.
"""

import importlib
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from jax_resnet.runtime.errors import UserError

if TYPE_CHECKING:
    from jax_resnet.api import Predictor, Result, evaluate_run, fit, load

__all__ = ["Predictor", "Result", "UserError", "evaluate_run", "fit", "load"]

IMPORTED = time.monotonic()  # nearly the start of a command's process

try:
    __version__ = version("jax-resnet-cifar")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    # The functions import JAX, which takes seconds, when they are first asked for.
    if name in __all__:
        return getattr(importlib.import_module("jax_resnet.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
