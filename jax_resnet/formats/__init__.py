"""The file formats of exported models.

Each format is a module with ``write(predictor, path)`` and ``load(path, predictor)``,
which reads back what was written for the given model. ``load`` returns a
:class:`~jax_resnet.predictor.Predictor` or, where another runtime computes, a function
from images to probabilities.
"""

from collections.abc import Callable

import numpy as np

Probabilities = Callable[[np.ndarray], np.ndarray]
