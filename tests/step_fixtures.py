"""A tiny network, random images, and training steps over them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jax_resnet.model import resnet
from jax_resnet.runtime.signals import Interrupt
from jax_resnet.training.loss import Loss, Preprocessing
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.optimizer import make_optimizer, make_schedule
from jax_resnet.training.state import create_train_state

N, BATCH, CLASSES, SHAPE = 40, 8, 5, (8, 8, 3)
# Without momentum and decay, a step shows its gradient.
RATE = 0.05
SGD = make_optimizer(
    "sgd", make_schedule("constant", RATE, 20), momentum=0.0, weight_decay=0.0
)


def scale(images):
    return images.astype(jnp.float32) / 128 - 1


PLAIN = Preprocessing(lambda _, images, epoch: scale(images), scale)


@functools.cache
def network():
    """The definition of the network, and a state that keeps an average."""
    model = resnet.initialize(jax.random.key(0), depth=8, num_classes=CLASSES)
    return create_train_state(model, SGD, with_average=True)


@functools.cache
def images_and_labels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, *SHAPE), np.uint8)
    return jnp.asarray(images), jnp.asarray(rng.integers(0, CLASSES, N, np.int32))


def make_loss(preprocessing=PLAIN, **options):
    return Loss(network()[0], preprocessing, **options)


def on_batch(train_step):
    """Compiles ``(state, images, labels, key) -> (state, metrics)``."""

    def step(state, images, labels, key):
        order = jnp.arange(len(labels), dtype=jnp.int32)[None, None]
        zeros = RunningMetrics.zeros()
        return train_step((state, zeros), images, labels, order, key)

    return jax.jit(step)


class StopAfter(Interrupt):
    """Has a run stop from the n-th question on."""

    def __init__(self, questions=10**9):
        super().__init__()
        self._left = questions

    def is_due(self, seconds):
        self._left -= 1
        return self._left < 0
