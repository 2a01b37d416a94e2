"""Under load and while it is being stopped, the server answers what it accepted."""

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from format_fixtures import make_predictor
from over_http import data_url, fetch, png, post, request

from jax_resnet.predictor import Predictor

pytestmark = pytest.mark.slow
BROKEN = (OSError, http.client.HTTPException)  # by the server
IMAGE = data_url(png(np.zeros((8, 8, 3), np.uint8)))


class HeldPredictor(Predictor):
    """Computes when ``free`` is set."""

    free = threading.Event()

    def explain(self, images):
        assert self.free.wait(10)
        return super().explain(images)


@pytest.fixture
def held():
    HeldPredictor.free.clear()
    return HeldPredictor(make_predictor(num_classes=10).stored, batch_size=2)


def test_a_full_queue_refuses_politely(serving, held):
    with serving(held, "--max-queue=2", "--concurrency=1") as (_, address):
        answers = [post(address, IMAGE, "crop")]
        time.sleep(0.5)  # the first one is now being processed
        answers += [post(address, IMAGE, "crop") for _ in range(4)]
        assert [status for status, _ in answers] == [200, 200, 200, 503, 503]
        assert request(address + "/healthz")[0] == 200
        held.free.set()
        for _, event in answers[:3]:
            assert "event: complete" in fetch(address, event)


def test_open_requests_are_answered_before_it_stops(serving, held):
    with serving(held) as (server, address), ThreadPoolExecutor(2) as threads:
        event = post(address, IMAGE, "crop")[1]
        answer = threads.submit(fetch, address, event)
        time.sleep(0.5)  # the request is now open
        server.should_exit = True
        held.free.set()
        assert "event: complete" in answer.result()
        with pytest.raises(BROKEN):
            while True:
                request(address + "/healthz")
                time.sleep(0.05)
