import threading

import numpy as np
import pytest
from batching import Batcher


class Model:
    """Answers with the sum of each image; waits to be let go."""

    def __init__(self):
        self.sizes, self.free = [], threading.Event()

    def __call__(self, images):
        self.sizes.append(len(images))
        assert self.free.wait(10)
        sums = images.sum(axis=(1, 2, 3)).astype(np.float32)
        return sums[:, None], images[..., :1].astype(np.float32)


def ask(batcher, values):
    """Asks for all of them at once; returns the answers in order."""
    answers = [None] * len(values)

    def one(index, value):
        answers[index] = batcher(np.full((2, 2, 1), value, np.uint8))

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(values)]
    for thread in threads:
        thread.start()
    return threads, answers


def test_everyone_gets_their_own_answer():
    model = Model()
    batcher = Batcher(model, max_batch=4)
    threads, answers = ask(batcher, range(30))
    model.free.set()
    for thread in threads:
        thread.join(10)
    for value, (total, activation) in enumerate(answers):
        assert total == [4 * value]
        np.testing.assert_array_equal(activation, np.full((2, 2, 1), value))
    assert set(model.sizes) <= {1, 4}
    assert len(model.sizes) <= 2 + 30 / 4 + 1  # those who waited went together


def test_one_alone_does_not_wait():
    model = Model()
    model.free.set()
    batcher = Batcher(model, max_batch=4)
    for _ in range(3):
        batcher(np.zeros((2, 2, 1), np.uint8))
    assert model.sizes == [1, 1, 1]


def test_an_error_reaches_those_who_wait_and_nobody_later():
    failing = [True]

    def explain(images):
        if failing:
            failing.clear()
            raise RuntimeError("no memory")
        return np.zeros((len(images), 1)), np.zeros((len(images), 1, 1, 1))

    batcher = Batcher(explain, max_batch=4)
    with pytest.raises(RuntimeError, match="no memory"):
        batcher(np.zeros((2, 2, 1), np.uint8))
    assert batcher(np.zeros((2, 2, 1), np.uint8))[0] == [0]


def test_warming_up_compiles_both_sizes():
    model = Model()
    model.free.set()
    Batcher(model, max_batch=4).warm_up((2, 2, 1))
    assert model.sizes == [1, 4]
