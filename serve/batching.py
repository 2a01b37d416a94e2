"""Batches the requests of many threads."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from jaxtyping import Float, UInt8

# Takes images [n, h, w, c] and returns the probabilities of the classes [n, classes]
# and the class-activation maps [n, h4, w4, classes], as Predictor.explain does.
Explain = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
Answer = tuple[Float[np.ndarray, " classes"], Float[np.ndarray, "h4 w4 classes"]]


class Batcher:
    """Calls a model with all images that arrived during its last call.

    An image that arrives alone is computed at once, without waiting for others. A call
    has one image or exactly ``max_batch``, padded, so that the model is compiled for
    two sizes only.
    """

    def __init__(self, explain: Explain, *, max_batch: int):
        self._explain = explain
        self._max_batch = max_batch
        self._waiting: queue.SimpleQueue[tuple[np.ndarray, Future[Answer]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._work, name="model", daemon=True).start()

    def __call__(self, image: UInt8[np.ndarray, "h w c"]) -> Answer:
        """Returns the model's answer for one image; raises what the model raises."""
        future: Future[Answer] = Future()
        self._waiting.put((image, future))
        return future.result()

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self._max_batch and not self._waiting.empty():
                batch.append(self._waiting.get())
            self._answer(batch)

    def _answer(self, batch: list[tuple[np.ndarray, Future[Answer]]]) -> None:
        images = np.stack([image for image, _ in batch])
        if 1 < len(batch) < self._max_batch:
            missing = self._max_batch - len(batch)
            images = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)])
        try:
            probabilities, maps = self._explain(images)
        except Exception as error:  # each request reports it
            for _, future in batch:
                future.set_exception(error)
            return
        for index, (_, future) in enumerate(batch):
            future.set_result((probabilities[index], maps[index]))
