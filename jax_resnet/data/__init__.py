"""Loads image classification data sets as uint8 arrays.

``tensorflow_datasets`` takes seconds to import, so it is imported on first use.
"""

from jax_resnet.data.dataset import (
    Dataset,
    Description,
    describe,
    load,
    load_kept_split,
    load_split,
)
from jax_resnet.data.source import DatasetInfo, Split
from jax_resnet.data.splits import HOLDOUT

__all__ = [
    "HOLDOUT",
    "Dataset",
    "DatasetInfo",
    "Description",
    "Split",
    "describe",
    "load",
    "load_kept_split",
    "load_split",
]
