"""Brings images to the devices: all at once, or training images streamed in chunks.

The compiled steps take images, labels and an order that names their rows. Where all
images are on the devices, it is the order of the epoch. Where they do not fit, the host
sends chunks of many training steps, already in the order of the epoch, one chunk ahead
of the one at work; the order then counts through the chunk. A step takes the same batch
either way.
"""

import math
from collections.abc import Iterator, Sequence
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
from jax_resnet.model.weights import Leaf
from jax_resnet.runtime.jax_settings import fixed_settings

CHUNK_BYTES = 64 * 2**20  # of streamed images


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

    If ``streamed``, training images come in chunks of about :data:`CHUNK_BYTES`. The
    layouts are those of the arrays of a training and of the evaluation chunk.

    Attributes:
        eval_chunk: the validation images, padded to whole batches with labels of -1.
    """

    eval_chunk: Chunk

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
        self._chunk_steps = sizes.steps_per_epoch
        if streamed:
            chunk_steps = CHUNK_BYTES // (sizes.train * math.prod(image_shape))
            self._chunk_steps = max(1, min(chunk_steps, self._chunk_steps))
        rows, order_layout = split_along(0), split_along(2)
        images = rows if streamed else REPLICATED
        self.train_layouts = (images, images, order_layout, REPLICATED)
        self.eval_layouts = (rows, rows)
        self._epoch_order: Any = jax.jit(
            partial(epoch_order, sizes),
            out_shardings=None if streamed else devices.sharding(order_layout),
        )
        self._background = ThreadPoolExecutor(1)
        self._sent: dict[int, Future[Chunk]] = {}  # by position, see _take

    def abstract_train(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Returns shapes, dtypes and layouts of the arrays of a training chunk."""
        sizes, key_dtype = self.sizes, jax.random.key(0).dtype
        n = self._chunk_steps * sizes.train if self._streamed else sizes.n_train
        images, labels = ((n, *self._image_shape), jnp.uint8), ((n,), jnp.int32)
        order, key = (sizes.order_shape, jnp.int32), ((), key_dtype)
        return self._abstract((images, labels, order, key), self.train_layouts)

    def abstract_eval(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Returns shapes, dtypes and layouts of the arrays of the evaluation chunk."""
        n = self.sizes.eval_steps * self.sizes.evaluation
        images, labels = ((n, *self._image_shape), jnp.uint8), ((n,), jnp.int32)
        return self._abstract((images, labels), self.eval_layouts)

    def _abstract(
        self, arrays: Sequence[tuple[Any, Any]], layouts: Sequence[PartitionSpec]
    ) -> tuple[jax.ShapeDtypeStruct, ...]:
        return tuple(
            jax.ShapeDtypeStruct(shape, dtype, sharding=self.devices.sharding(layout))
            for (shape, dtype), layout in zip(arrays, layouts, strict=True)
        )

    def compile(self) -> None:
        """Compiles the program that orders the images of an epoch."""
        key = self._place_order_key(jax.random.key(0))
        self._epoch_order = self._epoch_order.lower(key, np.int32(0)).compile()

    def load(
        self, dataset: data.Dataset, order_key: jax.Array, step_key: jax.Array
    ) -> None:
        """Takes the images, and puts on the devices those that stay there.

        One key gives the order of the training images, the other all that is random in
        a step.
        """
        place = self.devices.place
        self._train = (dataset.train.images, dataset.train.labels)
        self._step_key = place(step_key)
        self._order_key = self._place_order_key(order_key)
        self.eval_chunk = self._load_evaluation(dataset.evaluation)
        if self._streamed:
            steps, parts, size = self.sizes.order_shape
            own = size // self.devices.count
            rows = np.arange(self._chunk_steps * parts * own, dtype=np.int32)
            counting = np.resize(rows, (steps, parts, own))
            counting = np.tile(counting, (1, 1, self.devices.count))
            self._counting = place(counting, split_along(2))
        else:
            self._resident = place(self._train)
            self._order: tuple[int, Any] = (-1, None)  # the epoch, and its order

    def _load_evaluation(self, split: data.Split) -> Chunk:
        steps, batch_size = self.sizes.eval_steps, self.sizes.evaluation
        missing = steps * batch_size - len(split.labels)
        images = np.pad(split.images, [(0, missing), (0, 0), (0, 0), (0, 0)])
        labels = np.pad(split.labels, (0, missing), constant_values=-1)
        # Each device has its part of every batch.
        by_device = np.arange(len(labels)).reshape(steps, self.devices.count, -1)
        rows = by_device.swapaxes(0, 1).ravel()
        return Chunk(steps, self.devices.place_rows(rows, (images, labels)))

    def train_chunks(self, epoch: int, step: int) -> Iterator[Chunk]:
        """Yields the images of an epoch, from one of its steps on."""
        if not self._streamed:
            if self._order[0] != epoch:
                self._order = epoch, self._epoch_order(self._order_key, np.int32(epoch))
            arrays = (*self._resident, self._order[1], self._step_key)
            yield Chunk(self.sizes.steps_per_epoch, arrays)
            return
        n_chunks = -(-self.sizes.steps_per_epoch // self._chunk_steps)
        for index in range(step // self._chunk_steps, n_chunks):
            yield self._take(epoch * n_chunks + index, n_chunks)

    def _take(self, position: int, n_chunks: int) -> Chunk:
        """Returns a chunk by its position in a run, and begins to send the next one.

        Both are kept, as each may be taken again. An epoch has ``n_chunks``.
        """
        self._sent = {
            p: self._sent.get(p)
            or self._background.submit(self._chunk, *divmod(p, n_chunks))
            for p in (position, position + 1)
        }
        return self._sent[position].result()

    @fixed_settings()
    def _chunk(self, epoch: int, index: int) -> Chunk:
        """Sends the images of a chunk, in the order of the epoch, to the devices."""
        first = index * self._chunk_steps
        order = np.asarray(self._epoch_order(self._order_key, np.int32(epoch)))
        order = order[first : first + self._chunk_steps]
        # All chunks are of one size: the last one has rows that no step takes.
        padded = np.resize(order, (self._chunk_steps, *order.shape[1:]))
        columns = np.split(padded, self.devices.count, axis=2)
        rows = np.concatenate([column.reshape(-1) for column in columns])
        images_and_labels = self.devices.place_rows(rows, self._train)
        arrays = (*images_and_labels, self._counting, self._step_key)
        return Chunk(first + len(order), arrays)

    def _place_order_key(self, key: jax.Array) -> jax.Array:
        if not self._streamed:
            return self.devices.place(key)
        # On an accelerator the order would wait for queued steps.
        try:
            host = jax.local_devices(backend="cpu")[0]
        except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
            host = jax.local_devices()[0]
        return jax.device_put(key, host)


def epoch_order(
    sizes: BatchSizes, key: Key[Array, ""], epoch: Int[Leaf, ""]
) -> Int[Array, "steps parts b"]:
    """Returns the images of each step of an epoch, of :attr:`BatchSizes.order_shape`.

    The order is a permutation of the training images from ``fold_in(key, epoch)``
    alone, cut to whole batches; the images left out are others in each epoch.
    """
    order = jax.random.permutation(jax.random.fold_in(key, epoch), sizes.n_train)
    return order[: math.prod(sizes.order_shape)].reshape(sizes.order_shape)
