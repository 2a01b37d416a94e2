"""A small network, random images, and the steps over them on some devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from command_line import unchecked

from jax_resnet import data
from jax_resnet.augment import compose
from jax_resnet.augment.color import normalize
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.model import resnet
from jax_resnet.training import optimizer
from jax_resnet.training.compiled import CompiledSteps
from jax_resnet.training.ema import Ema
from jax_resnet.training.image_sizes import ImageSizes
from jax_resnet.training.input_pipeline import BatchSizes, InputPipeline
from jax_resnet.training.loss import Loss, Preprocessing
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.state import create_train_state
from jax_resnet.training.step import StepOptions

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
RECIPE = ("random_crop", "random_flip", "normalize")
SETTINGS = {"random_crop": {"padding": 1}, "random_flip": {"probability": 0.5}}
TRANSFORM = compose.build(RECIPE, SETTINGS, mean=INFO.mean, std=INFO.std)
PREPROCESSING = Preprocessing(
    TRANSFORM, functools.partial(normalize, mean=INFO.mean, std=INFO.std)
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
    """Compiled steps on the first devices, and the state that they begin with."""

    def __init__(
        self,
        count,
        *,
        learning_rate=0.1,
        statistics="global",
        streamed=False,
        accumulation=1,
        ema_decay=0.0,
        loss=None,
        image_sizes=(),
    ):
        self.devices = DeviceMesh(tuple(jax.devices()[:count]))
        self.sgd = optimizer.make_optimizer(
            "sgd", optimizer.make_schedule("cosine", learning_rate, 60)
        )
        network = resnet.initialize(
            jax.random.key(0),
            depth=8,
            num_classes=5,
            axis_name=self.devices.axis_name if statistics == "global" else None,
        )
        self.graphdef, initial = create_train_state(
            network, self.sgd, with_average=ema_decay > 0
        )
        self.loss = Loss(
            self.graphdef, **{"preprocessing": PREPROCESSING, **(loss or {})}
        )
        sizes = BatchSizes(
            N_TRAIN, N_EVAL, BATCH, -(-20 // count) * count, accumulation
        )
        self.pipeline = InputPipeline(self.devices, sizes, SHAPE, streamed=streamed)
        self.compiled = CompiledSteps(
            self.loss,
            self.sgd,
            StepOptions(
                accumulation=accumulation,
                average_statistics=statistics == "device",
                ema=Ema(ema_decay, statistics_steps=2) if ema_decay else None,
            ),
            self.pipeline,
            [ImageSizes(image_sizes).at(epoch) for epoch in range(12)],
            loop=None,
        )
        self.state = jax.device_get(initial)
        # What evaluates is compiled where it is asked for.
        carry = (self.devices.place(initial), self.zeros())
        with unchecked():
            for step in self.compiled._train.values():
                step.compile(carry, *self.pipeline.abstract_train())
        self.pipeline.load(dataset(), ORDER_KEY, STEP_KEY)

    def zeros(self):
        return self.devices.place(RunningMetrics.zeros())

    def __call__(self, before):
        """The state after one step, and its metrics; all in host memory."""
        epoch, step = divmod(int(before.step), STEPS_PER_EPOCH)
        chunk = next(self.pipeline.train_chunks(epoch, step))
        carry = (self.devices.place(before), self.zeros())
        return jax.device_get(self.compiled.train(epoch)(carry, 1, *chunk.arrays))

    def evaluate(self, of):
        """The metrics over the validation images."""
        weights = self.devices.place(of.weights)
        carry, done = self.devices.place((np.int32(0), RunningMetrics.zeros())), 0
        for chunk in self.pipeline.eval_chunks():
            count, done = chunk.end - done, chunk.end
            carry = self.compiled.evaluate(carry, count, *chunk.arrays, weights)
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
