"""ResNet-56 on CIFAR-100, at four times the compute of the reference recipe.

    python -m jax_resnet.train --config configs/resnet56_best.py --seeds 0,1,2

300 epochs with two gradients a step. It adds two things to ``resnet56_plus.py``:
adaptive sharpness-aware minimisation (Kwon et al. 2021,
https://arxiv.org/abs/2102.11600) and an average of the weights over about the last 13
epochs.

Neither its time nor its accuracy has been measured yet. The goal is 76.5 % top-1 on the
test split in the last epoch, as the mean of three seeds.
"""

import resnet56_plus
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the stronger recipe with ASAM and an average of the weights."""
    config = resnet56_plus.get_config()
    config.optimizer.sam_rho = 1.0
    config.optimizer.sam_adaptive = True
    config.ema.decay = 0.9998  # averages over 1 / (1 - decay) = 5,000 steps
    config.train.epochs = 300
    return config
