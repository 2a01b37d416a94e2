"""Images on their way to the devices: all at once, or streamed in pieces.

The compiled steps take images, labels and an order that names their rows. Where all
images are on the devices, the order is the epoch's. Where they do not fit, the host
sends pieces, in the epoch's order already, of many steps each, one ahead of the one
that is worked on; the order then counts through a piece. What a step sees is the same.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_resnet import data
from jax_resnet.parallel import REPLICATED, Devices, split_along

PIECE_BYTES = 64 * 2**20  # of images


@dataclass(frozen=True)
class Piece:
    """Images on the devices, for some steps.

    Attributes:
        end: the first step after them; of the epoch, or of the evaluation.
        arrays: what the compiled step takes of them.
    """

    end: int
    arrays: tuple[jax.Array, ...]


class Feed:
    """Gives the steps of training and evaluation their images.

    Attributes:
        steps_per_epoch: of training.
        eval_steps: batches of one evaluation.
        eval_batch_size: images of each, a multiple of the devices.
        train_layouts: of what a piece of training has.
        eval_layouts: of what a piece of evaluation has.

    Args:
        devices: that take them.
        epoch_order: see :func:`~jax_resnet.steps.make_epoch_order`.
        image_shape: height, width, channels.
        n_train: number of training images.
        n_eval: number of validation images.
        batch_size: of a training step, on all devices.
        eval_batch_size: of an evaluation step at the most, likewise.
        accumulation: parts of a training step.
        streamed: in pieces of about :data:`PIECE_BYTES`.
    """

    def __init__(
        self,
        devices: Devices,
        epoch_order: Callable[..., jax.Array],
        *,
        image_shape: tuple[int, int, int],
        n_train: int,
        n_eval: int,
        batch_size: int,
        eval_batch_size: int,
        accumulation: int = 1,
        streamed: bool = False,
    ):
        self._devices = devices
        self._epoch_order = epoch_order
        self._image_shape = image_shape
        self._n_train = n_train
        self._parts = (accumulation, batch_size // accumulation)
        self._streamed = streamed
        self.steps_per_epoch = n_train // batch_size
        self.eval_batch_size = _up(min(eval_batch_size, n_eval), devices.count)
        self.eval_steps = -(-n_eval // self.eval_batch_size)
        self._train_steps = self._piece_steps(batch_size, self.steps_per_epoch)
        self._eval_steps = self._piece_steps(self.eval_batch_size, self.eval_steps)
        rows = split_along(0)
        images = rows if streamed else REPLICATED
        self.train_layouts = (images, images, split_along(2))
        self.eval_layouts = (rows, rows)
        self._background = ThreadPoolExecutor(1)
        self._ahead: dict[tuple[str, int, int], Future[Piece]] = {}

    def _piece_steps(self, batch_size: int, steps: int) -> int:
        if not self._streamed:
            return steps
        size = batch_size * int(np.prod(self._image_shape))
        return max(1, min(PIECE_BYTES // size, steps))

    def abstract_train(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes and layouts of what a piece of training has."""
        n = self._train_steps * int(np.prod(self._parts))
        order = (self.steps_per_epoch, *self._parts)
        return (
            *self._abstract(n if self._streamed else self._n_train, self.train_layouts),
            jax.ShapeDtypeStruct(
                order, jnp.int32, sharding=self._devices.sharding(self.train_layouts[2])
            ),
        )

    def abstract_eval(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes and layouts of what a piece of evaluation has."""
        n = self._eval_steps * self.eval_batch_size
        return self._abstract(n, self.eval_layouts)

    def _abstract(self, n: int, layouts: Any) -> tuple[jax.ShapeDtypeStruct, ...]:
        shapes = ((n, *self._image_shape), jnp.uint8), ((n,), jnp.int32)
        return tuple(
            jax.ShapeDtypeStruct(shape, dtype, sharding=self._devices.sharding(layout))
            for (shape, dtype), layout in zip(shapes, layouts, strict=False)
        )

    def load(self, dataset: data.Dataset, order_key: jax.Array) -> None:
        """Takes the images, and puts them on the devices if they stay there.

        Args:
            dataset: what trains and what validates.
            order_key: of the order of the training images.
        """
        self._train = (dataset.train.images, dataset.train.labels)
        self._evaluation = (dataset.evaluation.images, dataset.evaluation.labels)
        if self._streamed:
            self._order_key = order_key
            parts, size = self._parts
            own = size // self._devices.count
            rows = np.arange(self._train_steps * parts * own, dtype=np.int32)
            rows = np.resize(
                rows.reshape(-1, parts, own), (self.steps_per_epoch, parts, own)
            )
            counting = np.tile(rows, (1, 1, self._devices.count))
            self._counting = self._devices.place(counting, split_along(2))
            return
        self._order_key = self._devices.place(order_key)
        self._resident = self._devices.place(self._train)
        self._resident_eval = self._eval_piece(0)

    def training(self, epoch: int, step: int) -> Iterator[Piece]:
        """The images of an epoch, from a step of it on."""
        if not self._streamed:
            order = self._epoch_order(self._order_key, jnp.int32(epoch))
            yield Piece(self.steps_per_epoch, (*self._resident, order))
            return
        for index in range(step // self._train_steps, self._count("train")):
            yield self._next("train", epoch, index)

    def evaluation(self) -> Iterator[Piece]:
        """The validation images, padded to whole batches with labels of -1."""
        if not self._streamed:
            yield self._resident_eval
            return
        for index in range(self._count("eval")):
            yield self._next("eval", 0, index)

    def _count(self, kind: str) -> int:
        """How many pieces there are."""
        if kind == "train":
            return -(-self.steps_per_epoch // self._train_steps)
        return -(-self.eval_steps // self._eval_steps)

    def _next(self, kind: str, epoch: int, index: int) -> Piece:
        """A piece, while the one after it is sent."""
        piece = self._send(kind, epoch, index).result()
        del self._ahead[kind, epoch, index]
        if index + 1 < self._count(kind):
            self._send(kind, epoch, index + 1)
        elif kind == "train":
            self._send("eval", 0, 0)
            self._send("train", epoch + 1, 0)
        return piece

    def _send(self, kind: str, epoch: int, index: int) -> Future[Piece]:
        place = kind, epoch, index
        if place not in self._ahead:
            call = (
                (self._train_piece, epoch, index)
                if kind == "train"
                else (self._eval_piece, index)
            )
            self._ahead[place] = self._background.submit(*call)
        return self._ahead[place]

    def _train_piece(self, epoch: int, index: int) -> Piece:
        first = index * self._train_steps
        order = self._host_order(epoch)[first : first + self._train_steps]
        # One piece is as large as another: the last one has rows that no step takes.
        order = np.resize(order, (self._train_steps, *self._parts))
        columns = np.split(order, self._devices.count, axis=2)
        rows = np.concatenate([column.reshape(-1) for column in columns])
        arrays = self._devices.place_rows(rows, self._train)
        end = min(first + self._train_steps, self.steps_per_epoch)
        return Piece(end, (*arrays, self._counting))

    def _host_order(self, epoch: int) -> np.ndarray:
        # Elsewhere than on an accelerator, where it would wait for queued steps.
        with jax.default_device(_host_device()):
            return np.asarray(self._epoch_order(self._order_key, jnp.int32(epoch)))

    def _eval_piece(self, index: int) -> Piece:
        first = index * self._eval_steps
        size = self._eval_steps * self.eval_batch_size
        images, labels = (
            array[first * self.eval_batch_size :][:size] for array in self._evaluation
        )
        missing = size - len(labels)
        images = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
        labels = np.pad(labels, (0, missing), constant_values=-1)
        # A batch has the same images, and its sums the same order, in pieces or whole.
        by_device = np.arange(size).reshape(self._eval_steps, self._devices.count, -1)
        rows = by_device.swapaxes(0, 1).ravel()
        arrays = self._devices.place_rows(rows, (images, labels))
        return Piece(min(first + self._eval_steps, self.eval_steps), arrays)


def _host_device() -> jax.Device:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        return jax.local_devices()[0]


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
