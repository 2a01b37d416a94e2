"""A small run on some devices, step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from command_line import ROOT, unchecked

from jax_resnet import config, data
from jax_resnet.augment import compose
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.model import resnet, weights
from jax_resnet.training.build import RunBuilder
from jax_resnet.training.metrics import RunningMetrics

N_TRAIN, N_EVAL, BATCH = 168, 50, 32
STEPS_PER_EPOCH = N_TRAIN // BATCH
SHAPE = (8, 8, 3)
INFO = data.DatasetInfo(
    name="random",
    version="1",
    image_shape=SHAPE,
    class_names=tuple("abcde"),
    superclass_names=(),
    superclass_of=(),
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)
FIELDS = (
    "augment.transforms=('random_crop', 'random_flip', 'normalize')",
    "augment.random_crop.padding=1",
    "model.depth=8",
    "model.dtype=float32",
    f"train.batch_size={BATCH}",
    "train.eval_batch_size=20",
    "train.epochs=12",
)
ORDER_KEY, STEP_KEY = jax.random.split(jax.random.key(1))


@functools.cache
def dataset():
    generator = np.random.default_rng(0)

    def split(n):
        labels = generator.integers(0, 5, n, np.int32)
        images = generator.integers(0, 128, (n, *SHAPE), np.uint8)
        images[np.arange(n), labels] += 100  # a row of each image tells its class
        return data.Split(images, labels)

    return data.Dataset(INFO, split(N_TRAIN), split(N_EVAL), "random")


class Steps:
    """The steps of a run on the first devices, and the state that they begin with."""

    def __init__(self, count, *fields):
        overrides = [f"--config.{field}" for field in (*FIELDS, *fields)]
        settings = config.load(str(ROOT / "configs" / "resnet56.py"), overrides)
        self.devices = DeviceMesh(tuple(jax.devices()[:count]))
        builder = RunBuilder(settings, self.devices, INFO, N_TRAIN, N_EVAL)
        built = builder.build(jax.random.key(0))
        network = resnet.initialize(jax.random.key(0), **builder.architecture)
        self.graphdef, *_ = weights.split(network)
        self.steps, self.pipeline = built.steps, built.pipeline
        self.state = jax.device_get(built.state)
        self.learning_rate = settings.optimizer.learning_rate
        self.weight_decay = settings.optimizer.weight_decay
        augmentations = settings.augment.to_dict()
        self.augment = compose.build(
            augmentations.pop("transforms"), augmentations, mean=INFO.mean, std=INFO.std
        )
        self.pipeline.load(dataset(), ORDER_KEY, STEP_KEY)

    def __call__(self, before):
        """The state after one step, and its metrics; all in host memory."""
        epoch, step = divmod(int(before.step), STEPS_PER_EPOCH)
        chunk = next(self.pipeline.train_chunks(epoch, step))
        carry = self.devices.place((before, RunningMetrics.zeros()))
        with unchecked():
            return jax.device_get(self.steps.train(epoch)(carry, 1, *chunk.arrays))

    def evaluate(self, of):
        """The metrics over the validation images."""
        weights = self.devices.place(of.weights)
        carry, done = self.devices.place((np.int32(0), RunningMetrics.zeros())), 0
        for chunk in self.pipeline.eval_chunks():
            count, done = chunk.end - done, chunk.end
            with unchecked():
                carry = self.steps.evaluate(carry, count, *chunk.arrays, weights)
        assert done == self.pipeline.sizes.eval_steps
        return jax.device_get(carry[1])


def batch_of(step):
    """The images, labels and keys of a step, from the documented rules alone."""
    epoch, index = divmod(step, STEPS_PER_EPOCH)
    key = jax.random.fold_in(ORDER_KEY, epoch)
    order = np.asarray(jax.random.permutation(key, N_TRAIN))
    rows = order[index * BATCH : (index + 1) * BATCH]
    keys = jax.random.split(jax.random.fold_in(STEP_KEY, step), BATCH)
    train = dataset().train
    return jnp.asarray(train.images[rows]), jnp.asarray(train.labels[rows]), keys
