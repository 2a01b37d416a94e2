import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from batching import Batcher

IMAGE = np.ones((2, 2, 1), np.uint8)


class Model:
    """Returns the sum of each image, once it is free."""

    def __init__(self):
        self.sizes, self.free = [], threading.Event()

    def __call__(self, images):
        self.sizes.append(len(images))
        assert self.free.wait(10)
        sums = images.sum(axis=(1, 2, 3)).astype(np.float32)
        return sums[:, None], images[..., :1].astype(np.float32)


def test_every_request_gets_its_own_answer():
    model = Model()
    batcher = Batcher(model, max_batch=4)
    with ThreadPoolExecutor(30) as threads:
        futures = [threads.submit(batcher, IMAGE * value) for value in range(30)]
        model.free.set()
    for value, future in enumerate(futures):
        total, activation = future.result()
        assert total == [4 * value]
        np.testing.assert_array_equal(activation, IMAGE * value)
    assert set(model.sizes) <= {1, 4}


def test_requests_that_wait_go_together():
    model = Model()
    batcher = Batcher(model, max_batch=4)
    with ThreadPoolExecutor(6) as threads:
        first = threads.submit(batcher, IMAGE)
        while not model.sizes:
            pass
        others = [threads.submit(batcher, IMAGE) for _ in range(5)]
        while batcher._waiting.qsize() < 5:
            pass
        model.free.set()
    assert all(future.result()[0] == [4] for future in (first, *others))
    assert model.sizes == [1, 4, 1]


def test_an_error_reaches_the_requests_of_its_batch_alone():
    failing = [True]

    def explain(images):
        if failing:
            failing.clear()
            raise RuntimeError("no memory")
        return np.zeros((len(images), 1)), np.zeros((len(images), 1, 1, 1))

    batcher = Batcher(explain, max_batch=4)
    with pytest.raises(RuntimeError, match="no memory"):
        batcher(IMAGE)
    assert batcher(IMAGE)[0] == [0]
