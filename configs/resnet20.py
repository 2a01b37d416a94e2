"""ResNet-20 on CIFAR-100, by the reference recipe.

    python -m jax_resnet.train --config configs/resnet20.py

278,324 parameters, a third of ResNet-56's work. Not measured in full yet.
"""

import resnet56
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The reference recipe at depth 20."""
    config = resnet56.get_config()
    config.model.depth = 20
    return config
