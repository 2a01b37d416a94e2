"""Images on their way to the devices: all at once, or streamed in chunks.

The compiled steps take images, labels and an order that names their rows. Where all
images are on the devices, it is the order of the epoch. Where they do not fit, the host
sends chunks of many steps, already in the order of the epoch, one chunk ahead of the
one at work; the order then counts through the chunk. A step takes the same batch either
way.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Int, Key

from jax_resnet import data
from jax_resnet.distributed.mesh import REPLICATED, DeviceMesh, split_along

CHUNK_BYTES = 64 * 2**20  # of images


@dataclass(frozen=True)
class BatchSizes:
    """How the images of a run are cut into batches, on all devices together."""

    n_train: int  # number of training images
    n_eval: int  # number of validation images
    train: int  # images of a training step
    evaluation: int  # images of an evaluation step, a multiple of the devices
    accumulation: int = 1  # number of parts that a training step takes its batch in

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of an epoch, which takes whole batches only."""
        return self.n_train // self.train

    @property
    def eval_steps(self) -> int:
        """Steps of an evaluation, the last of which is padded."""
        return -(-self.n_eval // self.evaluation)

    @property
    def order_shape(self) -> tuple[int, int, int]:
        """Shape of an epoch's order: steps, parts, images of a part."""
        part = self.train // self.accumulation
        return self.steps_per_epoch, self.accumulation, part


@dataclass(frozen=True)
class Chunk:
    """Images on the devices for some steps."""

    end: int  # number of the first step after them, in the epoch or the evaluation
    arrays: tuple[jax.Array, ...]  # arguments of the compiled step


class InputPipeline:
    """Gives the steps of training and evaluation their images.

    If ``streamed``, it sends chunks of about :data:`CHUNK_BYTES`. The layouts are those
    of the arrays of a training and of an evaluation chunk.
    """

    def __init__(
        self,
        devices: DeviceMesh,
        sizes: BatchSizes,
        image_shape: tuple[int, int, int],
        *,
        streamed: bool = False,
    ):
        self.devices = devices
        self.sizes = sizes
        self._image_shape = image_shape
        self._streamed = streamed
        self._train_steps = self._chunk_steps(sizes.train, sizes.steps_per_epoch)
        self._eval_steps = self._chunk_steps(sizes.evaluation, sizes.eval_steps)
        self._n_train_chunks = -(-sizes.steps_per_epoch // self._train_steps)
        self._n_eval_chunks = -(-sizes.eval_steps // self._eval_steps)
        rows, order_layout = split_along(0), split_along(2)
        images = rows if streamed else REPLICATED
        self.train_layouts = (images, images, order_layout, REPLICATED)
        self.eval_layouts = (rows, rows)
        self._epoch_order: Any = make_epoch_order(
            sizes, sharding=None if streamed else devices.sharding(order_layout)
        )
        self._background = ThreadPoolExecutor(1)
        self._sent: dict[int, Future[Chunk]] = {}  # by position, see _take
        self._epoch = 0

    def _chunk_steps(self, batch_size: int, steps: int) -> int:
        if not self._streamed:
            return steps
        size = batch_size * int(np.prod(self._image_shape))
        return max(1, min(CHUNK_BYTES // size, steps))

    def abstract_train(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Returns shapes, dtypes and layouts of the arrays of a training chunk."""
        sizes, (rows, _, order, key) = self.sizes, self.train_layouts
        n = self._train_steps * sizes.train if self._streamed else sizes.n_train
        return (
            self._abstract((n, *self._image_shape), jnp.uint8, rows),
            self._abstract((n,), jnp.int32, rows),
            self._abstract(sizes.order_shape, jnp.int32, order),
            self._abstract((), jax.random.key(0).dtype, key),
        )

    def abstract_eval(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Returns shapes, dtypes and layouts of the arrays of an evaluation chunk."""
        n, (rows, _) = self._eval_steps * self.sizes.evaluation, self.eval_layouts
        return (
            self._abstract((n, *self._image_shape), jnp.uint8, rows),
            self._abstract((n,), jnp.int32, rows),
        )

    def _abstract(
        self, shape: tuple[int, ...], dtype: Any, layout: PartitionSpec
    ) -> jax.ShapeDtypeStruct:
        sharding = self.devices.sharding(layout)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    def compile(self) -> None:
        """Compiles the program that orders the images of an epoch."""
        key = self._place_order_key(jax.random.key(0))
        self._epoch_order = self._epoch_order.lower(key, np.int32(0)).compile()

    def load(
        self, dataset: data.Dataset, order_key: jax.Array, step_key: jax.Array
    ) -> None:
        """Takes the images, and puts them on the devices if they stay there.

        One key gives the order of the training images, the other all that is random in
        a step.
        """
        self._train = (dataset.train.images, dataset.train.labels)
        self._evaluation = (dataset.evaluation.images, dataset.evaluation.labels)
        self._step_key = self.devices.place(step_key)
        self._order_key = self._place_order_key(order_key)
        if self._streamed:
            steps, parts, size = self.sizes.order_shape
            own = size // self.devices.count
            rows = np.arange(self._train_steps * parts * own, dtype=np.int32)
            rows = np.resize(rows.reshape(-1, parts, own), (steps, parts, own))
            counting = np.tile(rows, (1, 1, self.devices.count))
            self._counting = self.devices.place(counting, split_along(2))
        else:
            self._resident = self.devices.place(self._train)
            self._resident_eval = self._eval_chunk(0)
            self._order: tuple[int, Any] = (-1, None)  # the epoch, and its order

    def train_chunks(self, epoch: int, step: int) -> Iterator[Chunk]:
        """Yields the images of an epoch, from one of its steps on."""
        self._epoch = epoch
        if self._streamed:
            for index in range(step // self._train_steps, self._n_train_chunks):
                yield self._take(epoch, index)
            return
        if self._order[0] != epoch:
            self._order = epoch, self._epoch_order(self._order_key, np.int32(epoch))
        arrays = (*self._resident, self._order[1], self._step_key)
        yield Chunk(self.sizes.steps_per_epoch, arrays)

    def eval_chunks(self) -> Iterator[Chunk]:
        """Yields the validation images, padded to whole batches with labels of -1."""
        if not self._streamed:
            yield self._resident_eval
            return
        for index in range(self._n_eval_chunks):
            yield self._take(self._epoch, self._n_train_chunks + index)

    def _take(self, epoch: int, index: int) -> Chunk:
        """Returns a chunk by its position in a run, and begins to send the next one.

        An epoch has its training chunks first, and then those of its evaluation. Both
        chunks are kept, as each may be taken again.
        """
        position = epoch * (self._n_train_chunks + self._n_eval_chunks) + index
        both = (position, position + 1)
        sent = {p: chunk for p, chunk in self._sent.items() if p in both}
        for p in both:
            if p not in sent:
                sent[p] = self._background.submit(self._chunk, p)
        self._sent = sent
        return sent[position].result()

    def _chunk(self, position: int) -> Chunk:
        epoch, index = divmod(position, self._n_train_chunks + self._n_eval_chunks)
        if index >= self._n_train_chunks:
            return self._eval_chunk(index - self._n_train_chunks)
        first = index * self._train_steps
        order = np.asarray(self._epoch_order(self._order_key, np.int32(epoch)))
        order = order[first : first + self._train_steps]
        # All chunks are of one size: the last one has rows that no step takes.
        order = np.resize(order, (self._train_steps, *order.shape[1:]))
        columns = np.split(order, self.devices.count, axis=2)
        rows = np.concatenate([column.reshape(-1) for column in columns])
        images_and_labels = self.devices.place_rows(rows, self._train)
        end = min(first + self._train_steps, self.sizes.steps_per_epoch)
        return Chunk(end, (*images_and_labels, self._counting, self._step_key))

    def _eval_chunk(self, index: int) -> Chunk:
        batch_size = self.sizes.evaluation
        first = index * self._eval_steps
        size = self._eval_steps * batch_size
        images, labels = (a[first * batch_size :][:size] for a in self._evaluation)
        missing = size - len(labels)
        images = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
        labels = np.pad(labels, (0, missing), constant_values=-1)
        # A batch has the same images in the same order, streamed or not.
        by_device = np.arange(size).reshape(self._eval_steps, self.devices.count, -1)
        rows = by_device.swapaxes(0, 1).ravel()
        arrays = self.devices.place_rows(rows, (images, labels))
        return Chunk(min(first + self._eval_steps, self.sizes.eval_steps), arrays)

    def _place_order_key(self, key: jax.Array) -> jax.Array:
        if not self._streamed:
            return self.devices.place(key)
        # On an accelerator the order would wait for queued steps.
        try:
            host = jax.local_devices(backend="cpu")[0]
        except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
            host = jax.local_devices()[0]
        return jax.device_put(key, host)


def make_epoch_order(
    sizes: BatchSizes, *, sharding: jax.sharding.Sharding | None = None
) -> Callable:
    """Makes the jitted ``(key, epoch) -> order``: the images of each step.

    The order is a permutation of the training images from ``fold_in(key, epoch)``
    alone, cut to whole batches; the images left out are others in each epoch. It is
    int32 of :attr:`BatchSizes.order_shape`.
    """

    @partial(jax.jit, out_shardings=sharding)
    def epoch_order(
        key: Key[Array, ""], epoch: Int[Array, ""]
    ) -> Int[Array, "steps parts b"]:
        order = jax.random.permutation(jax.random.fold_in(key, epoch), sizes.n_train)
        steps, parts, size = sizes.order_shape
        return order[: steps * parts * size].reshape(sizes.order_shape)

    return epoch_order
