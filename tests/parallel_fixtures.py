"""A small network, random images, and the steps over them on some devices."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np

from jax_resnet import augment, data, model, optimizer, state
from jax_resnet.image_sizes import ImageSizes
from jax_resnet.objective import Objective
from jax_resnet.parallel import Devices
from jax_resnet.programs import Programs
from jax_resnet.steps import StepOptions

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


@contextlib.contextmanager
def unchecked():
    """JAX makes states of what describes arrays while it lowers a step."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


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
        objective=None,
        image_sizes=(),
        **options,
    ):
        self.devices = Devices(tuple(jax.devices()[:count]))
        axis_name = self.devices.axis_name if statistics == "global" else None
        self.sgd = optimizer.make_optimizer(
            "sgd", optimizer.make_schedule("cosine", learning_rate, 60)
        )
        network = model.initialize(
            jax.random.key(0), depth=8, num_classes=5, axis_name=axis_name
        )
        self.graphdef, initial = state.create(
            network, self.sgd, with_average=ema_decay > 0
        )
        transform = augment.build(RECIPE, SETTINGS, mean=INFO.mean, std=INFO.std)
        self.objective = Objective(self.graphdef, transform, **objective or {})
        self.programs = Programs(
            self.objective,
            self.sgd,
            StepOptions(
                accumulation=accumulation,
                average_statistics=statistics == "device",
                ema_decay=ema_decay,
                statistics_steps=2,
                **options,
            ),
            devices=self.devices,
            info=INFO,
            n_train=N_TRAIN,
            n_eval=N_EVAL,
            batch_size=BATCH,
            eval_batch_size=20,
            loop_on_device=False,
            streamed=streamed,
            image_sizes=ImageSizes(image_sizes),
            epochs=12,
        )
        self.state = jax.device_get(initial)
        self._key = self.devices.place(STEP_KEY)
        # What evaluates is compiled where it is asked for.
        carry = (self.devices.place(initial), self.programs.zeros())
        with unchecked():
            for step in self.programs.train_steps.values():
                step.compile(carry, *self.programs.feed.abstract_train(), self._key)
        self.programs.feed.load(dataset(), ORDER_KEY)

    def __call__(self, before):
        """The state after one step, and its sums; all in host memory."""
        epoch, step = divmod(int(before.step), STEPS_PER_EPOCH)
        piece = next(self.programs.feed.training(epoch, step))
        carry = (self.devices.place(before), self.programs.zeros())
        train_step = self.programs.train_step_in(epoch)
        carry = train_step(carry, 1, *piece.arrays, self._key)
        return jax.device_get(carry)

    def evaluate(self, of):
        """The sums over the validation images."""
        weights = self.devices.place(of.weights)
        sums, done = self.programs.zeros(), 0
        for piece in self.programs.feed.evaluation():
            carry = self.programs.eval_carry(sums)
            count, done = piece.end - done, piece.end
            carry = self.programs.eval_step(carry, count, weights, *piece.arrays)
            sums = carry[0]
        assert done == self.programs.feed.eval_steps
        return jax.device_get(sums)


def batch_of(step):
    """The images, labels and keys of a step, from the documented rules alone."""
    epoch, index = divmod(step, STEPS_PER_EPOCH)
    key = jax.random.fold_in(ORDER_KEY, epoch)
    order = np.asarray(jax.random.permutation(key, N_TRAIN))
    rows = order[index * BATCH : (index + 1) * BATCH]
    keys = jax.random.split(jax.random.fold_in(STEP_KEY, step), BATCH)
    train = dataset().train
    return jnp.asarray(train.images[rows]), jnp.asarray(train.labels[rows]), keys
