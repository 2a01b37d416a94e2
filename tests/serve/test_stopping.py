"""What has been accepted is answered, though the app is being stopped."""

import asyncio
import base64
import io
import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from over_http import get, post
from PIL import Image

from jax_resnet.predict import Predictor

pytest.importorskip("gradio", reason="the extra 'serve' is not installed")
import stopping

REFUSED = {"detail": "The app is being stopped. Ask again in a moment."}


def knock(door, method):
    """The status of the answer to a request."""
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(door({"type": "http", "method": method}, None, send))
    return sent[0]["status"]


def test_a_door_knows_who_is_inside(monkeypatch):
    now, unfinished, busy = [100.0], [], []
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(stopping, "time", clock)

    async def app(scope, receive, send):
        busy.append(door.busy)
        await send({"type": "http.response.start", "status": 200})

    door = stopping.Door(app, lambda: len(unfinished))
    assert knock(door, "GET") == 200
    assert not door.busy
    unfinished.append("a request")
    assert knock(door, "POST") == 200
    now[0] += 10
    assert door.busy  # it is in work
    unfinished.clear()
    assert not door.busy
    assert knock(door, "POST") == 200
    assert door.busy  # its answer has yet to be fetched
    door.shut()
    assert knock(door, "POST") == 503
    assert knock(door, "GET") == 200
    now[0] += 10
    assert not door.busy
    assert busy == [False, True, True, True]


def test_it_does_not_wait_for_ever():
    door = stopping.Door(None, lambda: 1)
    server = stopping.Server(door, grace=1.3, lifespan="off", log_level="warning")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        server.should_exit = True
        stopped = time.monotonic()
        thread.join(10)
    assert not thread.is_alive()
    assert 0.3 <= time.monotonic() - stopped < 3


@pytest.mark.slow
def test_what_was_accepted_is_answered(serving, tiny, finished):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    right = np.sort(Predictor.open(finished).predict(pixels))[:, :-6:-1]
    options = ("--model", str(finished), "--max-queue", "500", "--concurrency", "2")
    with (
        serving(tiny[1], *options) as (process, address),
        ThreadPoolExecutor(16) as threads,
    ):
        call = address + "/gradio_api/call/predict"

        def ask(index):
            contents = io.BytesIO()
            Image.fromarray(pixels[index % 5]).save(contents, "PNG")
            encoded = base64.b64encode(contents.getvalue()).decode()
            image = {"url": f"data:image/png;base64,{encoded}"}
            status, text = post(call, {"data": [image, "crop"]})
            return status, json.loads(text)

        def fetch(index):
            _, text = get(f"{call}/{events[index]['event_id']}")
            assert "event: complete" in text
            (answer,) = json.loads(text.split("data: ")[-1])
            found = [guess["confidence"] for guess in answer["top5"]]
            np.testing.assert_allclose(found, right[index % 5], rtol=1e-4)

        answers = list(threads.map(ask, range(60)))
        assert {status for status, _ in answers} == {200}
        events = [event for _, event in answers]
        # Half of them are being waited for when the signal comes.
        waiting = [threads.submit(fetch, index) for index in range(30)]
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        while (answer := ask(len(events)))[0] == 200:
            events.append(answer[1])
        assert answer == (503, REFUSED)
        for index in range(30, len(events)):
            fetch(index)
        for one in waiting:
            one.result()
        assert process.wait(12) == 143
        assert time.monotonic() - started < 10
        assert process.stderr.read() == ""
        host, port = address.removeprefix("http://").split(":")
        with socket.create_server((host, int(port))):
            pass  # it is free


@pytest.mark.slow
def test_an_app_that_nobody_uses_stops_at_once(serving, tiny, finished):
    with serving(tiny[1], "--model", str(finished)) as (process, address):
        assert get(address)[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143
