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

from jax_resnet.augment import Augment
from jax_resnet.model import ResNet
from jax_resnet.state import Arrays, TrainState, merge, split
from jax_resnet.sums import Sums, sum_metrics

TrainStep = Callable[..., tuple[TrainState, Sums]]


def make_train_step(
    graphdef: nnx.GraphDef[ResNet],
    optimizer: optax.GradientTransformation,
    augment: Augment,
    *,
    accumulation: int = 1,
    unroll: bool = False,
    axis_name: str | None = None,
    average_statistics: bool = False,
    skip_nonfinite: bool = False,
) -> TrainStep:
    """The pure function ``(state, images, labels, keys) -> (state, sums)``.

    ``images`` are uint8 ``[b, h, w, c]``, ``labels`` int32 ``[b]``; ``keys`` ``[b]``
    drive the augmentation of each. The sums are of this batch, before the update.

    Args:
        graphdef: of the model.
        optimizer: of its parameters.
        augment: what the model gets to see of the images.
        accumulation: the batch is taken in so many equal parts, one after the other,
            and their gradients are averaged before the one update. BatchNorm sees a
            part at a time.
        unroll: write the parts out instead of looping over them.
        axis_name: of the mesh whose devices each have a part of the batch, if any.
        average_statistics: BatchNorm saw the images of a device alone; the running
            statistics are then averaged over the devices.
        skip_nonfinite: a batch whose loss or gradient is not finite changes nothing
            but the number of steps taken, and its sums are empty.
    """

    def gradients_of(
        params: Arrays, batch_stats: Arrays, images: Array, labels: Array, keys: Array
    ) -> tuple[Arrays, Sums, Arrays]:
        inputs = augment(keys, images)

        def loss_fn(params: Arrays) -> tuple[Array, tuple[Sums, Arrays]]:
            model = merge(graphdef, params, batch_stats)
            losses, sums = sum_metrics(model(inputs, train=True), labels)
            return losses.mean(), (sums, split(model)[2])

        gradients, (sums, new_stats) = jax.grad(loss_fn, has_aux=True)(params)
        return gradients, sums, new_stats

    def accumulated(state: TrainState, batch: Any) -> tuple[Arrays, Sums, Arrays]:
        if accumulation == 1:
            return gradients_of(state.params, state.batch_stats, *batch)

        def add(carry: Any, part: Any) -> tuple[Any, None]:
            gradients, sums, batch_stats = carry
            more, part_sums, batch_stats = gradients_of(
                state.params, batch_stats, *part
            )
            gradients = jax.tree.map(jnp.add, gradients, more)
            return (gradients, sums + part_sums, batch_stats), None

        parts = jax.tree.map(lambda x: x.reshape(accumulation, -1, *x.shape[1:]), batch)
        zeros = jax.tree.map(jnp.zeros_like, state.params)
        (gradients, sums, batch_stats), _ = lax.scan(
            add, (zeros, Sums.zeros(), state.batch_stats), parts, unroll=unroll
        )
        gradients = jax.tree.map(lambda total: total / accumulation, gradients)
        return gradients, sums, batch_stats

    def train_step(
        state: TrainState,
        images: UInt8[Array, "b h w c"],
        labels: Int[Array, " b"],
        keys: Key[Array, " b"],
    ) -> tuple[TrainState, Sums]:
        gradients, sums, batch_stats = accumulated(state, (images, labels, keys))
        if axis_name is not None:
            gradients, sums = lax.pmean(gradients, axis_name), sums.total(axis_name)
            if average_statistics:
                batch_stats = lax.pmean(batch_stats, axis_name)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = (params, batch_stats, opt_state, sums)
        if skip_nonfinite:
            leaves = (sums.loss, *gradients.values())
            finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]))
            old = (state.params, state.batch_stats, state.opt_state, Sums.zeros())
            new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
        params, batch_stats, opt_state, sums = new
        return TrainState(state.step + 1, params, batch_stats, opt_state), sums

    return train_step


def make_indexed_train_step(
    train_step: TrainStep, *, axis_name: str | None = None
) -> Callable:
    """The step ``((state, sums), images, labels, order, key) -> (state, sums)``.

    It takes the batch that row ``step % len(order)`` names from the images that are
    there, augments image ``i`` of it with ``split(fold_in(key, step), b)[i]``, and
    adds to the epoch's sums. With an axis, each device has its columns of the order.
    """

    def indexed_train_step(
        carry: tuple[TrainState, Sums],
        images: UInt8[Array, "n h w c"],
        labels: Int[Array, " n"],
        order: Int[Array, "steps parts b"],
        key: Key[Array, ""],
    ) -> tuple[TrainState, Sums]:
        state, sums = carry
        _, parts, own = order.shape
        batch = lax.dynamic_index_in_dim(
            order, state.step % order.shape[0], keepdims=False
        ).reshape(-1)
        devices = 1 if axis_name is None else lax.axis_size(axis_name)
        keys = jax.random.split(
            jax.random.fold_in(key, state.step), parts * devices * own
        )
        if axis_name is not None:
            first = lax.axis_index(axis_name) * own
            keys = lax.dynamic_slice_in_dim(
                keys.reshape(parts, devices * own), first, own, axis=1
            ).reshape(-1)
        new_state, batch_sums = train_step(state, images[batch], labels[batch], keys)
        sums = sums + batch_sums
        first_bad = (sums.bad_step < 0) & ~jnp.isfinite(batch_sums.loss)
        bad_step = jnp.where(first_bad, new_state.step, sums.bad_step)
        return new_state, dataclasses.replace(sums, bad_step=bad_step)

    return indexed_train_step


def make_indexed_eval_step(
    graphdef: nnx.GraphDef[ResNet],
    normalize: Callable[[UInt8[Array, "b h w c"]], Float[Array, "b h w c"]],
    *,
    batch_size: int,
    axis_name: str | None = None,
) -> Callable:
    """The step ``((sums, index), params, batch_stats, images, labels)``.

    It adds batch ``index`` of the images to the sums and moves on by one. They are
    padded to whole batches with labels of -1. With an axis, each device has images
    of its own, and takes ``batch_size`` of these.
    """

    def indexed_eval_step(
        carry: tuple[Sums, Int[Array, ""]],
        params: Arrays,
        batch_stats: Arrays,
        images: UInt8[Array, "n h w c"],
        labels: Int[Array, " n"],
    ) -> tuple[Sums, Int[Array, ""]]:
        sums, index = carry
        start = index * batch_size
        batch = lax.dynamic_slice_in_dim(images, start, batch_size)
        batch_labels = lax.dynamic_slice_in_dim(labels, start, batch_size)
        logits = merge(graphdef, params, batch_stats)(normalize(batch))
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
