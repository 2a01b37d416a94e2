"""Answers requests of many threads with few calls of the model."""

import queue
import threading
from concurrent.futures import Future
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8

Answer = tuple[Float[np.ndarray, " classes"], Float[np.ndarray, "h4 w4 classes"]]


class Explain(Protocol):
    """What a model does; :meth:`jax_resnet.predict.Predictor.explain` is one."""

    def __call__(
        self, images: UInt8[np.ndarray, "n h w c"], /
    ) -> tuple[Float[np.ndarray, "n classes"], Float[np.ndarray, "n h4 w4 classes"]]:
        """Probabilities of the classes, and their activation maps."""


class Batcher:
    """Calls a model with the images that have come in while it was busy.

    An image that comes alone is answered at once; nobody waits for a batch to fill.

    Args:
        explain: the model.
        max_batch: images in a call. A call has one image or this many, of which the
            last may be padding, so that a model is compiled for two sizes only.
    """

    def __init__(self, explain: Explain, *, max_batch: int):
        self._explain = explain
        self._max_batch = max_batch
        self._waiting: queue.SimpleQueue[tuple[np.ndarray, Future[Answer]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._work, name="model", daemon=True).start()

    def __call__(self, image: UInt8[np.ndarray, "h w c"]) -> Answer:
        """Waits for the answer to one image; raises what the model raises."""
        future: Future[Answer] = Future()
        self._waiting.put((image, future))
        return future.result()

    def warm_up(self, shape: tuple[int, ...]) -> None:
        """Compiles the model for both sizes of a call.

        Args:
            shape: of an image.
        """
        for size in (1, self._max_batch):
            self._explain(np.zeros((size, *shape), np.uint8))

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self._max_batch and not self._waiting.empty():
                batch.append(self._waiting.get())
            self._answer(*zip(*batch, strict=True))

    def _answer(self, images: tuple[Any, ...], futures: tuple[Any, ...]) -> None:
        size = 1 if len(images) == 1 else self._max_batch
        padded = np.zeros((size, *images[0].shape), np.uint8)
        padded[: len(images)] = images
        try:
            probabilities, maps = self._explain(padded)
        except Exception as error:  # for those who wait, whatever it is
            for future in futures:
                future.set_exception(error)
            return
        for index, future in enumerate(futures):
            future.set_result((probabilities[index], maps[index]))
