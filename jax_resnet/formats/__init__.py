"""The formats in which a model leaves this package.

Each format is a module with two functions, ``write(predictor, path)`` and
``load(path, predictor)``. The latter reads what was written, as whoever receives it
would, and returns its function from images to probabilities.
"""

from collections.abc import Callable

import numpy as np

Probabilities = Callable[[np.ndarray], np.ndarray]
