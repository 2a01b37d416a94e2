"""ResNet-20 on CIFAR-100, by the reference recipe.

    python -m jax_resnet.train --config configs/resnet20.py

278,324 parameters, a third of the work of ResNet-56. The whole recipe has not been
measured yet. Cut to 5 epochs (``--config.train.epochs=5``) it took 51 minutes on two
busy CPU cores and gave 26.54 % top-1 on the test split in the last epoch (n = 1,
``results/resnet20-cpu``).
"""

import resnet56
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the reference recipe at depth 20."""
    config = resnet56.get_config()
    config.model.depth = 20
    return config
