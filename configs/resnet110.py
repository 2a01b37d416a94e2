"""ResNet-110 on CIFAR-100, by the reference recipe with a warmup.

    python -m jax_resnet.train --config configs/resnet110.py

1,736,564 parameters, twice the work of ResNet-56. He et al. 2015, section 4.2, found
a learning rate of 0.1 slightly too large to start with at this depth. Neither its time
nor its accuracy has been measured yet.
"""

import resnet56
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the reference recipe at depth 110, with one epoch of warmup."""
    config = resnet56.get_config()
    config.model.depth = 110
    config.optimizer.warmup_epochs = 1.0
    return config
