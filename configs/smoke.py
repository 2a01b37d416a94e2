"""A small network on synthetic images, to see everything work.

    python -m jax_resnet.train --config configs/smoke.py

It needs no download and no GPU, and takes about two minutes on two CPU cores
(``benchmarks/answered.md``).
"""

import resnet56
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns ResNet-8 on the synthetic data set, with light augmentation."""
    config = resnet56.get_config()
    config.model.depth = 8
    config.data.name = "synthetic"
    config.augment.transforms = ("random_crop", "random_flip", "normalize")
    config.train.epochs = 2
    config.train.batch_size = 64
    return config
