"""Data sets as uint8 arrays: any prepared TFDS set of small images, and our own.

Importing this is quick; what needs ``tensorflow_datasets`` is imported on use.
"""

from jax_resnet.data.dataset import (
    HOLDOUT,
    Dataset,
    DatasetInfo,
    Description,
    Split,
    describe,
    load,
    load_split,
)

__all__ = [
    "HOLDOUT",
    "Dataset",
    "DatasetInfo",
    "Description",
    "Split",
    "describe",
    "load",
    "load_split",
]
