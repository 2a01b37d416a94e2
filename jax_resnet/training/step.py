"""The steps of training and evaluation, as pure functions."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Int, Key, UInt8

from jax_resnet.model.weights import Arrays, Leaf, Weights, merge
from jax_resnet.training.ema import Ema, zero_statistics
from jax_resnet.training.loss import Batch, Loss
from jax_resnet.training.metrics import RunningMetrics, batch_metrics
from jax_resnet.training.sam import Sam
from jax_resnet.training.state import TrainState

# (params, batch_stats, batch) -> (gradients, (metrics, batch_stats))
Gradients = Callable[
    [Arrays, Arrays, Batch], tuple[Arrays, tuple[RunningMetrics, Arrays]]
]


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """Options of the training step."""

    # number of equal parts of the batch that are taken one after the other; their
    # gradients are averaged before the one update. BatchNorm sees one part at a time.
    accumulation: int = 1
    unroll: bool = False  # writes these parts out instead of looping over them
    axis_name: str | None = None  # axis of the mesh whose devices share the batch
    # BatchNorm sees the images of one device at a time, and the running statistics are
    # averaged over the devices
    average_statistics: bool = False
    # sharpness-aware minimisation, which takes the gradients twice; None leaves it out
    sam: Sam | None = None
    # the average of the weights that the state keeps; None keeps none
    ema: Ema | None = None
    # names of the parameters and BatchNorm statistics that no step changes
    frozen: frozenset[str] = frozenset()

    def trained(self, arrays: Arrays) -> Arrays:
        """Returns the arrays that are not frozen."""
        return {name: a for name, a in arrays.items() if name not in self.frozen}

    def kept(self, arrays: Arrays) -> Arrays:
        """Returns the arrays that are frozen."""
        return {name: a for name, a in arrays.items() if name in self.frozen}


def make_train_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    options: StepOptions = StepOptions(),
) -> Callable[..., tuple[TrainState, RunningMetrics]]:
    """Makes ``((state, metrics), images, labels, order, key) -> (state, metrics)``.

    The batch is row ``step % len(order)`` of the order, or this device's columns of it;
    image ``i`` is augmented with ``split(fold_in(key, step), b)[i]``.
    """
    gradients_of = _gradients(loss, options)

    def train_step(
        carry: tuple[TrainState, RunningMetrics],
        images: UInt8[Array, "n h w c"],
        labels: Int[Array, " n"],
        order: Int[Array, "steps parts b"],
        key: Key[Array, ""],
    ) -> tuple[TrainState, RunningMetrics]:
        state, metrics = carry
        rows, keys, epoch = _rows(state.step, order, key, options.axis_name)
        batch = loss.prepare_batch(images[rows], labels[rows], keys, epoch)
        gradients, (found, batch_stats) = gradients_of(
            state.params, state.batch_stats, batch
        )
        trained = options.trained(state.params)
        if options.sam is not None:
            # The statistics stay those at the weights, not at their neighbours.
            above = state.params | options.sam.ascend(trained, gradients)
            gradients, _ = gradients_of(above, state.batch_stats, batch)
        updates, opt_state = optimizer.update(gradients, state.opt_state, trained)
        params = state.params | optax.apply_updates(trained, updates)
        # Averaged over devices, they would be rounded.
        batch_stats = batch_stats | options.kept(state.batch_stats)
        average = state.average
        if options.ema is not None and average is not None:
            average = options.ema.update(average, params, state.step)
        new_state = TrainState(state.step + 1, params, batch_stats, opt_state, average)
        return new_state, metrics.plus_step(found, new_state.step)

    return train_step


def _gradients(loss: Loss, options: StepOptions) -> Gradients:
    """Takes the gradients over the parts of the batch and over the devices.

    They are those of the parameters that are trained.
    """
    parts, axis_name = options.accumulation, options.axis_name

    def gradients_of(
        params: Arrays, batch_stats: Arrays, batch: Batch
    ) -> tuple[Arrays, tuple[RunningMetrics, Arrays]]:
        return jax.grad(
            lambda trained: loss(params | trained, batch_stats, batch), has_aux=True
        )(options.trained(params))

    def accumulated(
        params: Arrays, batch_stats: Arrays, batch: Batch
    ) -> tuple[Arrays, tuple[RunningMetrics, Arrays]]:
        def add(carry: Any, part: Any) -> tuple[Any, None]:
            total, metrics, batch_stats = carry
            gradients, (found, batch_stats) = gradients_of(params, batch_stats, part)
            total = jax.tree.map(jnp.add, total, gradients)
            return (total, metrics + found, batch_stats), None

        split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
        zeros = jax.tree.map(jnp.zeros_like, options.trained(params))
        (total, metrics, batch_stats), _ = lax.scan(
            add,
            (zeros, RunningMetrics.zeros(), batch_stats),
            split,
            unroll=options.unroll,
        )
        return jax.tree.map(lambda x: x / parts, total), (metrics, batch_stats)

    def over_devices(
        params: Arrays, batch_stats: Arrays, batch: Batch
    ) -> tuple[Arrays, tuple[RunningMetrics, Arrays]]:
        own = accumulated if parts > 1 else gradients_of
        gradients, (metrics, batch_stats) = own(params, batch_stats, batch)
        if axis_name is not None:
            gradients = lax.pmean(gradients, axis_name)
            metrics = metrics.over_devices(axis_name)
            if options.average_statistics:
                batch_stats = lax.pmean(batch_stats, axis_name)
        return gradients, (metrics, batch_stats)

    return over_devices


def _rows(
    step: Leaf, order: Array, key: Array, axis_name: str | None
) -> tuple[Array, Array, Leaf]:
    """Returns the rows of a step's images, a key for each image, and the epoch."""
    steps, parts, own = order.shape
    rows = lax.dynamic_index_in_dim(order, step % steps, keepdims=False).reshape(-1)
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    keys = jax.random.split(jax.random.fold_in(key, step), parts * devices * own)
    if axis_name is not None:
        first = lax.axis_index(axis_name) * own
        keys = lax.dynamic_slice_in_dim(
            keys.reshape(parts, devices * own), first, own, axis=1
        ).reshape(-1)
    return rows, keys, step // steps


def make_statistics_step(loss: Loss, options: StepOptions = StepOptions()) -> Callable:
    """Makes ``((total, step), images, labels, order, key, weights) -> (total, step)``.

    The step takes the batch that training takes in it, and adds BatchNorm's statistics
    of this batch under the weights' parameters to the total: see
    :func:`~jax_resnet.training.ema.mean_statistics`. The weights have the frozen
    statistics, and the total has the others.
    """

    def statistics_step(
        carry: tuple[Arrays, Int[Array, ""]],
        images: UInt8[Array, "n h w c"],
        labels: Int[Array, " n"],
        order: Int[Array, "steps parts b"],
        key: Key[Array, ""],
        weights: Weights,
    ) -> tuple[Arrays, Int[Array, ""]]:
        total, step = carry
        rows, keys, epoch = _rows(step, order, key, options.axis_name)
        batch = loss.prepare_batch(images[rows], labels[rows], keys, epoch)
        before = zero_statistics(total) | weights.batch_stats
        found = options.trained(loss.statistics(weights.params, before, batch))
        if options.axis_name is not None and options.average_statistics:
            found = lax.pmean(found, options.axis_name)
        return jax.tree.map(jnp.add, total, found), step + 1

    return statistics_step


def make_eval_step(
    loss: Loss, *, batch_size: int, axis_name: str | None = None
) -> Callable:
    """Makes ``((step, metrics), images, labels, weights) -> (step, metrics)``.

    The step adds batch ``step % (n / batch_size)`` of the images to the metrics. They
    are padded to whole batches with labels of -1. With an axis, each device has images
    of its own, and takes ``batch_size`` of these.
    """

    def eval_step(
        carry: tuple[Int[Array, ""], RunningMetrics],
        images: UInt8[Array, "n h w c"],
        labels: Int[Array, " n"],
        weights: Weights,
    ) -> tuple[Int[Array, ""], RunningMetrics]:
        step, metrics = carry
        start = step % (images.shape[0] // batch_size) * batch_size
        batch = lax.dynamic_slice_in_dim(images, start, batch_size)
        batch_labels = lax.dynamic_slice_in_dim(labels, start, batch_size)
        model = merge(loss.graphdef, weights.params, weights.batch_stats)
        logits = model(loss.preprocessing.normalize(batch))
        found = batch_metrics(logits, batch_labels)[1]
        if axis_name is not None:
            found = found.over_devices(axis_name)
        return step + 1, metrics + found

    return eval_step
