"""Classifies pictures; to come. The class of models is in predictor.py."""

from typing import Any


def __getattr__(name: str) -> Any:
    # ``Predictor`` is imported from here, too, and takes seconds.
    if name == "Predictor":
        from jax_resnet.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
