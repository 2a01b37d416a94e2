"""Fine-tunes a ResNet-56 of CIFAR-100 to CIFAR-10.

    python -m jax_resnet.train --config configs/resnet56.py
    python -m jax_resnet.train --config configs/finetune.py

The second command starts from the best epoch of the first. The classes are others, so
the head is new. The stem and the first stage stay as they are; the rest trains for 20
epochs at a tenth of the learning rate. Start from any run or exported model of the same
``model.*`` with ``--config.train.initial_model=DIR``, and fine-tune to images of your
own with ``--config.data.name=folder --config.data.dir=DIR``.

This recipe has not been measured. ``benchmarks/README.md`` compares fine-tuning with
training from scratch on a smaller scale.
"""

import resnet56
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the reference recipe, shortened and gentler, from a trained model."""
    config = resnet56.get_config()
    config.data.name = "cifar10"
    config.optimizer.learning_rate = 0.01
    config.optimizer.warmup_epochs = 1.0  # the new head starts at random
    config.optimizer.frozen = "stem,stage1"
    config.train.initial_model = "runs/resnet56"
    config.train.epochs = 20
    return config
