"""The steps of training and evaluation, as pure functions."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt8

from jax_resnet import average, sharpness
from jax_resnet.model import ResNet
from jax_resnet.objective import Objective, Seen
from jax_resnet.state import Arrays, TrainState, Weights, merge
from jax_resnet.sums import Sums, sum_metrics

TrainStep = Callable[..., tuple[TrainState, Sums]]


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """How a training step goes about it.

    Attributes:
        accumulation: the batch is taken in so many equal parts, one after the other,
            and their gradients are averaged before the one update. BatchNorm sees a
            part at a time.
        average_statistics: BatchNorm sees the images of a device alone; the running
            statistics are then averaged over the devices.
        skip_nonfinite: a batch whose loss or gradient is not finite changes nothing
            but the number of steps taken, and its sums are empty.
        sam_rho: radius of sharpness-aware minimisation, which takes the gradients
            twice; 0 for none. See :func:`~jax_resnet.sharpness.ascend`.
        sam_adaptive: likewise.
        ema_decay: of the state's average, see :func:`~jax_resnet.average.update`; 0
            for states that have none.
        statistics_steps: batches that give the average its BatchNorm statistics.

    Raises:
        UserError: for a value out of range.
    """

    accumulation: int = 1
    average_statistics: bool = False
    skip_nonfinite: bool = False
    sam_rho: float = 0.0
    sam_adaptive: bool = False
    ema_decay: float = 0.0
    statistics_steps: int = 1

    def __post_init__(self) -> None:
        sharpness.check(self.sam_rho)
        average.check(self.ema_decay, self.statistics_steps)


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    options: StepOptions = StepOptions(),
    *,
    unroll: bool = False,
    axis_name: str | None = None,
) -> TrainStep:
    """The pure function ``(state, images, labels, keys, epoch) -> (state, sums)``.

    ``images`` are uint8 ``[b, h, w, c]``, ``labels`` int32 ``[b]``; ``keys`` ``[b]``
    drive what is random about each; ``epoch`` is an int32 scalar. The sums are of this
    batch, before the update.

    Args:
        objective: what is minimised.
        optimizer: of the model's parameters.
        options: how.
        unroll: write the parts of an accumulation out instead of looping over them.
        axis_name: of the mesh whose devices each have a part of the batch, if any.
    """
    accumulation = options.accumulation

    def gradients_of(
        params: Arrays, batch_stats: Arrays, seen: Seen
    ) -> tuple[Arrays, Sums, Arrays]:
        if accumulation == 1:
            return together(*objective.gradients(params, batch_stats, seen))

        def add(carry: Any, part: Any) -> tuple[Any, None]:
            gradients, sums, batch_stats = carry
            more, part_sums, batch_stats = objective.gradients(
                params, batch_stats, part
            )
            gradients = jax.tree.map(jnp.add, gradients, more)
            return (gradients, sums + part_sums, batch_stats), None

        parts = jax.tree.map(lambda x: x.reshape(accumulation, -1, *x.shape[1:]), seen)
        zeros = jax.tree.map(jnp.zeros_like, params)
        (gradients, sums, batch_stats), _ = lax.scan(
            add, (zeros, Sums.zeros(), batch_stats), parts, unroll=unroll
        )
        gradients = jax.tree.map(lambda total: total / accumulation, gradients)
        return together(gradients, sums, batch_stats)

    def together(
        gradients: Arrays, sums: Sums, batch_stats: Arrays
    ) -> tuple[Arrays, Sums, Arrays]:
        """What the devices found, as one."""
        if axis_name is not None:
            gradients, sums = lax.pmean(gradients, axis_name), sums.total(axis_name)
            if options.average_statistics:
                batch_stats = lax.pmean(batch_stats, axis_name)
        return gradients, sums, batch_stats

    def train_step(
        state: TrainState,
        images: UInt8[Array, "b h w c"],
        labels: Int[Array, " b"],
        keys: Key[Array, " b"],
        epoch: Int[Array, ""],
    ) -> tuple[TrainState, Sums]:
        seen = objective.see(images, labels, keys, epoch)
        gradients, sums, batch_stats = gradients_of(
            state.params, state.batch_stats, seen
        )
        if options.sam_rho:
            # The statistics stay those of the weights, not of their neighbours.
            above = sharpness.ascend(
                state.params,
                gradients,
                rho=options.sam_rho,
                adaptive=options.sam_adaptive,
            )
            gradients, _, _ = gradients_of(above, state.batch_stats, seen)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = TrainState(state.step, params, batch_stats, opt_state, state.average)
        if state.average is not None:
            averaged = average.update(
                state.average.params, params, state.step, decay=options.ema_decay
            )
            new = dataclasses.replace(
                new, average=dataclasses.replace(state.average, params=averaged)
            )
        if options.skip_nonfinite:
            leaves = (sums.loss, *gradients.values())
            finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]))
            new, sums = jax.tree.map(
                lambda a, b: jnp.where(finite, a, b), (new, sums), (state, Sums.zeros())
            )
        return dataclasses.replace(new, step=state.step + 1), sums

    return train_step


def make_indexed_train_step(
    train_step: TrainStep, *, axis_name: str | None = None
) -> Callable:
    """The step ``((state, sums), images, labels, order, key) -> (state, sums)``.

    It takes the batch that row ``step % len(order)`` names from the images that are
    there, augments image ``i`` of it with ``split(fold_in(key, step), b)[i]``, and
    adds to the epoch's sums. With an axis, each device has its columns of the order.
    """
    take = _batch_of(axis_name)

    def indexed_train_step(
        carry: tuple[TrainState, Sums],
        images: UInt8[Array, "n h w c"],
        labels: Int[Array, " n"],
        order: Int[Array, "steps parts b"],
        key: Key[Array, ""],
    ) -> tuple[TrainState, Sums]:
        state, sums = carry
        batch = take(state.step, images, labels, order, key)
        new_state, batch_sums = train_step(state, *batch)
        sums = sums + batch_sums
        first_bad = (sums.bad_step < 0) & ~jnp.isfinite(batch_sums.loss)
        bad_step = jnp.where(first_bad, new_state.step, sums.bad_step)
        return new_state, dataclasses.replace(sums, bad_step=bad_step)

    return indexed_train_step


def _batch_of(axis_name: str | None) -> Callable:
    """What :class:`Objective` sees in a step: images, labels, keys and epoch."""

    def batch_of(
        step: Int[Array, ""], images: Array, labels: Array, order: Array, key: Array
    ) -> tuple[Array, ...]:
        steps, parts, own = order.shape
        batch = lax.dynamic_index_in_dim(order, step % steps, keepdims=False)
        batch = batch.reshape(-1)
        devices = 1 if axis_name is None else lax.axis_size(axis_name)
        keys = jax.random.split(jax.random.fold_in(key, step), parts * devices * own)
        if axis_name is not None:
            first = lax.axis_index(axis_name) * own
            keys = lax.dynamic_slice_in_dim(
                keys.reshape(parts, devices * own), first, own, axis=1
            ).reshape(-1)
        return images[batch], labels[batch], keys, step // steps

    return batch_of


def make_indexed_statistics_step(
    objective: Objective,
    *,
    axis_name: str | None = None,
    average_statistics: bool = False,
) -> Callable:
    """The step ``((total, step), params, images, labels, order, key)``.

    It sees the batch that training sees in that step, takes BatchNorm's statistics of
    it under the parameters, adds them to the total, and moves on by one: see
    :func:`~jax_resnet.average.mean_statistics`.
    """
    take = _batch_of(axis_name)

    def indexed_statistics_step(
        carry: tuple[Arrays, Int[Array, ""]],
        params: Arrays,
        images: UInt8[Array, "n h w c"],
        labels: Int[Array, " n"],
        order: Int[Array, "steps parts b"],
        key: Key[Array, ""],
    ) -> tuple[Arrays, Int[Array, ""]]:
        total, step = carry
        seen = objective.see(*take(step, images, labels, order, key))
        found = objective.statistics(params, average.no_statistics(total), seen)
        if axis_name is not None and average_statistics:
            found = lax.pmean(found, axis_name)
        return jax.tree.map(jnp.add, total, found), step + 1

    return indexed_statistics_step


def make_indexed_eval_step(
    graphdef: nnx.GraphDef[ResNet],
    normalize: Callable[[UInt8[Array, "b h w c"]], Float[Array, "b h w c"]],
    *,
    batch_size: int,
    axis_name: str | None = None,
) -> Callable:
    """The step ``((sums, index), weights, images, labels)``.

    It adds batch ``index`` of the images to the sums and moves on by one. They are
    padded to whole batches with labels of -1. With an axis, each device has images
    of its own, and takes ``batch_size`` of these.
    """

    def indexed_eval_step(
        carry: tuple[Sums, Int[Array, ""]],
        weights: Weights,
        images: UInt8[Array, "n h w c"],
        labels: Int[Array, " n"],
    ) -> tuple[Sums, Int[Array, ""]]:
        sums, index = carry
        start = index * batch_size
        batch = lax.dynamic_slice_in_dim(images, start, batch_size)
        batch_labels = lax.dynamic_slice_in_dim(labels, start, batch_size)
        model = merge(graphdef, weights.params, weights.batch_stats)
        logits = model(normalize(batch))
        found = sum_metrics(logits, batch_labels)[1]
        if axis_name is not None:
            found = found.total(axis_name)
        return sums + found, index + 1

    return indexed_eval_step


def make_epoch_order(
    n: int,
    *,
    batch_size: int,
    accumulation: int = 1,
    sharding: jax.sharding.Sharding | None = None,
) -> Callable:
    """The compiled ``(key, epoch) -> order``: which images each step of it sees.

    A permutation of the ``n`` images from ``fold_in(key, epoch)`` alone, cut to
    whole batches; the images left out are others in each epoch. The order is int32
    ``[steps, accumulation, batch_size / accumulation]``.
    """
    steps = n // batch_size

    @partial(jax.jit, out_shardings=sharding)
    def epoch_order(
        key: Key[Array, ""], epoch: Int[Array, ""]
    ) -> Int[Array, "steps parts b"]:
        order = jax.random.permutation(jax.random.fold_in(key, epoch), n)
        return order[: steps * batch_size].reshape(steps, accumulation, -1)

    return epoch_order
