"""The compiled work: the steps of training and evaluation over resident data."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt8

from jax_resnet.model import ResNet
from jax_resnet.state import Arrays, Leaf, TrainState, merge, split

Augment = Callable[[Key[Array, ""], UInt8[Array, "b h w c"]], Float[Array, "b h w c"]]
TrainStep = Callable[..., tuple[TrainState, "Sums"]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sums:
    """Sums over images; divided once, at the end, they are exact means.

    Attributes:
        loss: sum of the cross-entropy losses, in nats; a float32 scalar. The others
            are int32 scalars.
        top1: number of images whose label is the most probable class.
        top5: number of images whose label is among the five most probable.
        count: number of images.
        bad_step: the first training step whose loss was not finite, or -1.
    """

    loss: Leaf
    top1: Leaf
    top5: Leaf
    count: Leaf
    bad_step: Leaf

    @classmethod
    def zeros(cls) -> "Sums":
        """The empty sums, each in a buffer of its own so that it can be donated."""
        top1, top5, count = (jnp.zeros((), jnp.int32) for _ in range(3))
        return cls(jnp.zeros(()), top1, top5, count, jnp.full((), -1, jnp.int32))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            loss=self.loss + other.loss,
            top1=self.top1 + other.top1,
            top5=self.top5 + other.top5,
            count=self.count + other.count,
            bad_step=jnp.maximum(self.bad_step, other.bad_step),
        )


def sum_metrics(
    logits: Float[Array, "b classes"], labels: Int[Array, " b"]
) -> tuple[Float[Array, " b"], Sums]:
    """The losses of a batch, and its sums; a label of -1 marks padding.

    Of classes with equal logits the lower index ranks first, as with ``argmax``.
    An image whose loss is not finite is never counted as right.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    lower = jnp.arange(logits.shape[-1])[None, :] < labels[:, None]
    rank = jnp.sum((logits > own) | ((logits == own) & lower), axis=-1)
    real = labels >= 0
    right = real & jnp.isfinite(losses)
    sums = Sums(
        loss=jnp.sum(jnp.where(real, losses, 0.0)),
        top1=jnp.sum(right & (rank < 1), dtype=jnp.int32),
        top5=jnp.sum(right & (rank < 5), dtype=jnp.int32),
        count=jnp.sum(real, dtype=jnp.int32),
        bad_step=jnp.int32(-1),
    )
    return losses, sums


def make_train_step(
    graphdef: nnx.GraphDef[ResNet],
    optimizer: optax.GradientTransformation,
    augment: Augment,
    *,
    skip_nonfinite: bool = False,
) -> TrainStep:
    """The pure function ``(state, images, labels, key) -> (state, sums)``.

    ``images`` are uint8 ``[b, h, w, c]``, ``labels`` int32 ``[b]``; ``key`` drives
    the augmentation. The sums are of this batch, before the update. With
    ``skip_nonfinite`` a batch whose loss or gradient is not finite changes nothing
    but the number of steps taken, and its sums are empty.
    """

    def train_step(
        state: TrainState,
        images: UInt8[Array, "b h w c"],
        labels: Int[Array, " b"],
        key: Key[Array, ""],
    ) -> tuple[TrainState, Sums]:
        inputs = augment(key, images)

        def loss_fn(params: Arrays) -> tuple[Array, tuple[Sums, Arrays]]:
            model = merge(graphdef, params, state.batch_stats)
            losses, sums = sum_metrics(model(inputs, train=True), labels)
            return losses.mean(), (sums, split(model)[2])

        gradients, (sums, batch_stats) = jax.grad(loss_fn, has_aux=True)(state.params)
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


def make_indexed_train_step(train_step: TrainStep, *, batch_size: int) -> Callable:
    """The step ``((state, sums), images, labels, order, key) -> (state, sums)``.

    It takes the batch that the epoch's ``order`` has for this step from the resident
    split, augments with ``fold_in(key, step)``, and adds to the epoch's sums.
    """

    def indexed_train_step(
        carry: tuple[TrainState, Sums],
        images: UInt8[Array, "n h w c"],
        labels: Int[Array, " n"],
        order: Int[Array, " m"],
        key: Key[Array, ""],
    ) -> tuple[TrainState, Sums]:
        state, sums = carry
        steps_per_epoch = order.shape[0] // batch_size
        start = state.step % steps_per_epoch * batch_size
        batch = lax.dynamic_slice_in_dim(order, start, batch_size)
        new_state, batch_sums = train_step(
            state, images[batch], labels[batch], jax.random.fold_in(key, state.step)
        )
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
) -> Callable:
    """The step ``((sums, index), params, batch_stats, images, labels)``.

    It adds batch ``index`` of the resident split to the sums and moves on by one.
    The split is padded to whole batches with labels of -1.
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
        return sums + sum_metrics(logits, batch_labels)[1], index + 1

    return indexed_eval_step


def make_epoch_order(n: int, *, batch_size: int) -> Callable:
    """The compiled ``(key, epoch) -> order``: which images each step of it sees.

    A permutation of the ``n`` images from ``fold_in(key, epoch)`` alone, cut to
    whole batches; the images left out are others in each epoch.
    """
    used = n // batch_size * batch_size

    @jax.jit
    def epoch_order(key: Key[Array, ""], epoch: Int[Array, ""]) -> Int[Array, " m"]:
        return jax.random.permutation(jax.random.fold_in(key, epoch), n)[:used]

    return epoch_order


class Repeated:
    """A compiled step ``(carry, *constants) -> carry``, applied many times a call.

    The carry is donated. How a run is cut into calls cannot change its results: the
    same compiled step runs whatever the count.

    Args:
        step: the pure function.
        loop_on_device: one program loops on the device, which spares the host a
            dispatch per step. Otherwise the host dispatches each step, without
            waiting: XLA for CPU leaves its fast convolutions aside within loops
            (see the figures in ``benchmarks/README.md``).
    """

    def __init__(self, step: Callable, *, loop_on_device: bool):
        self._loop_on_device = loop_on_device

        def loop(carry: Any, count: Array, *constants: Any) -> Any:
            return lax.fori_loop(0, count, lambda _, c: step(c, *constants), carry)

        self._call: Any = jax.jit(loop if loop_on_device else step, donate_argnums=0)

    def compile(self, carry: Any, *constants: Any) -> None:
        """Compiles ahead of the first call, for arguments of these shapes."""
        count = (jnp.int32(0),) if self._loop_on_device else ()
        self._call = self._call.lower(carry, *count, *constants).compile()

    def memory(self) -> int:
        """Bytes that the compiled step takes on the device, its arguments included."""
        statistics = self._call.memory_analysis()
        # Of steps dispatched one by one, the next has its memory while one runs.
        at_once = 1 if self._loop_on_device else 2
        return (
            statistics.argument_size_in_bytes
            + at_once * statistics.temp_size_in_bytes
            + statistics.output_size_in_bytes
            - statistics.alias_size_in_bytes
        )

    def __call__(self, carry: Any, count: int, *constants: Any) -> Any:
        """Applies the step ``count`` times, and returns without waiting."""
        if self._loop_on_device:
            return self._call(carry, jnp.int32(count), *constants)
        for _ in range(count):
            carry = self._call(carry, *constants)
        return carry
