"""ResNet-56 on CIFAR-100 for a machine without a GPU.

    python -m jax_resnet.train --config configs/resnet56_cpu.py

861,620 parameters from scratch, 80 epochs of 390 steps, at two thirds of the
multiply-adds that they would take at full size. Where it departs from ``resnet56.py``,
and why:

- Muon for the convolutions (Jordan et al. 2024,
  https://kellerjordan.github.io/posts/muon/) with a linear decay: over six epochs of
  ResNet-20, one seed each, it was ahead of SGD with Nesterov momentum
  (``results/cpu-trials.md``).
- Crop and the alternating flip (Jordan 2024, https://arxiv.org/abs/2404.00498, section
  3.6) in place of the stack of augmentations, which takes long to learn from.
- Small images first; the last third of the epochs sees the size of the evaluation.

Not measured yet: neither time nor accuracy. The goal is 73 % top-1 on the test split in
the last epoch.
"""

import resnet56
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Light augmentation, a faster optimizer, and small images first."""
    config = resnet56.get_config()
    config.augment.recipe = ("random_crop", "alternating_flip", "normalize")
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
