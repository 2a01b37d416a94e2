"""ResNet-56 on CIFAR-100 for a machine without a GPU.

    python -m jax_resnet.train --config configs/resnet56_cpu.py

861,620 parameters, 80 epochs of 390 steps, at two thirds of the multiply-adds that they
would take at full size. It differs from ``resnet56.py`` in this:

- Muon trains the convolutions (Jordan et al. 2024,
  https://kellerjordan.github.io/posts/muon/), with a linear decay. Over six epochs of
  ResNet-20, one seed each, it was ahead of SGD with Nesterov momentum
  (``results/cpu-trials.md``).
- Crop and the alternating flip (Jordan 2024, https://arxiv.org/abs/2404.00498, section
  3.6) replace the augmentations, which take many epochs to learn from.
- Small images come first. The last third of the epochs uses the size of the evaluation.

Neither its time nor its accuracy has been measured yet. The goal is 73 % top-1 on the
test split in the last epoch.
"""

import resnet56
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns a recipe of light augmentation, Muon, and small images first."""
    config = resnet56.get_config()
    config.augment.transforms = ("random_crop", "alternating_flip", "normalize")
    config.optimizer.name = "muon"
    config.optimizer.learning_rate = 0.02
    config.optimizer.momentum = 0.95
    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 0.01
    config.optimizer.adam_ratio = 0.1
    config.optimizer.schedule = "linear"
    config.optimizer.warmup_epochs = 1.0
    config.train.epochs = 80
    config.train.image_sizes = ((0, 20), (24, 24), (52, 32))
    return config
