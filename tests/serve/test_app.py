"""The app as its visitors meet it: over HTTP, in a process of its own."""

import base64
import http.client
import io
import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT, assert_one_line
from over_http import get, post
from PIL import Image
from test_uploads import png

from jax_resnet.checkpoint import store
from jax_resnet.predict import Predictor

gradio_client = pytest.importorskip("gradio_client", reason="the extra 'serve'")
pytest.importorskip("gradio", reason="the extra 'serve' is not installed")

EXAMPLE = ROOT / "serve" / "examples" / "apple.png"


@pytest.fixture(scope="module")
def client(address):
    return gradio_client.Client(address, verbose=False)


def ask(client, contents, folder, name="x.png", fit="crop"):
    path = folder / name
    path.write_bytes(contents)
    return client.predict(
        gradio_client.handle_file(str(path)), fit, api_name="/predict"
    )


def test_health(address, finished):
    status, text = get(address + "/healthz")
    assert status == 200
    health = json.loads(text)
    best = store.select(finished, "best")
    assert health["step"] == best.step
    assert health["accuracy"]["top1"] == best.metrics["val_top1"]
    assert health["accuracy"]["split"] == "test[:100]"
    assert health["model"] == "ResNet-8 on synthetic"
    assert health["uptime_seconds"] > 0


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_the_api_answers_with_the_models_probabilities(client, finished, tmp_path, fit):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    contents = io.BytesIO()
    Image.fromarray(pixels).save(contents, "PNG")
    answer = ask(client, contents.getvalue(), tmp_path, fit=fit)
    predictor = Predictor.open(finished)
    (expected,) = predictor.predict(pixels[None])
    order = np.argsort(-expected)[:5]
    names = [predictor.info.class_names[c].replace("_", " ") for c in order]
    assert [guess["label"] for guess in answer["top5"]] == names
    found = [guess["confidence"] for guess in answer["top5"]]
    np.testing.assert_allclose(found, expected[order], rtol=1e-4)
    assert answer["label"] == names[0]


def test_the_documented_curl(address):
    url = "data:image/png;base64," + base64.b64encode(EXAMPLE.read_bytes()).decode()
    call = address + "/gradio_api/call/predict"
    status, text = post(call, {"data": [{"url": url}, "crop"]})
    assert status == 200
    status, text = get(f"{call}/{json.loads(text)['event_id']}")
    assert "event: complete" in text
    assert {"label", "confidence", "top5"} <= set(
        json.loads(text.split("data: ")[1])[0]
    )


def test_the_page_has_its_parts(address):
    status, text = get(address)
    assert status == 200
    assert "ResNet-8 on synthetic" in text


HOSTILE = {
    "text.png": b"hello",
    "page.html": b"<script>alert(1)</script>",
    "picture.svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "cut.png": EXAMPLE.read_bytes()[:9000],
    "empty.png": b"",
}
TOO_MANY_PIXELS = png(13_000, 13_000, b"")


@pytest.mark.parametrize("name", HOSTILE)
def test_rubbish_gets_a_sentence(client, tmp_path, name):
    with pytest.raises(gradio_client.exceptions.AppError) as caught:
        ask(client, HOSTILE[name], tmp_path, name=name)
    assert re.fullmatch(r"This is not an image .* AVIF\.", str(caught.value))


def test_a_bomb_gets_a_sentence(client, tmp_path):
    with pytest.raises(gradio_client.exceptions.AppError, match="50 million pixels"):
        ask(client, TOO_MANY_PIXELS, tmp_path)


@pytest.mark.slow
def test_many_large_images_at_once_take_bounded_memory(serving, tiny, finished):
    # 49 million transparent pixels in a small file: the most that is decoded.
    contents = io.BytesIO()
    Image.new("RGBA", (7000, 7000), (1, 2, 3, 100)).save(contents, "PNG")
    encoded = base64.b64encode(contents.getvalue()).decode()
    image = {"url": f"data:image/png;base64,{encoded}"}
    with serving(tiny[1], "--model", str(finished)) as (process, address):
        call = address + "/gradio_api/call/predict"

        def one(_):
            _, text = post(call, {"data": [image, "pad"]})
            return get(f"{call}/{json.loads(text)['event_id']}")[1]

        with ThreadPoolExecutor(6) as threads:
            answers = list(threads.map(one, range(6)))
        assert all("event: complete" in answer for answer in answers)
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1))
    assert peak < 1.5e6


def test_no_image_and_no_fit(client):
    with pytest.raises(gradio_client.exceptions.AppError, match="no image"):
        client.predict(None, "crop", api_name="/predict")
    with pytest.raises(gradio_client.exceptions.AppError) as caught:
        client.predict(
            gradio_client.handle_file(str(EXAMPLE)), "stretch", api_name="/predict"
        )
    assert "/" not in str(caught.value).replace("http", "")


def test_no_file_of_the_server_is_readable(address, finished, client):
    for path in ("/etc/passwd", finished / "config.json", ROOT / "serve" / "app.py"):
        status, text = get(f"{address}/gradio_api/file={path}")
        assert status in (403, 404)
        assert "root:" not in text
        call = address + "/gradio_api/call/predict"
        image = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        status, text = post(call, {"data": [image, "crop"]})
        _, text = get(f"{call}/{json.loads(text)['event_id']}")
        assert "event: error" in text
        assert str(path) not in text


def test_addresses_are_not_fetched(address):
    call = address + "/gradio_api/call/predict"
    image = {"path": address + "/healthz", "meta": {"_type": "gradio.FileData"}}
    _, text = post(call, {"data": [image, "crop"]})
    _, text = get(f"{call}/{json.loads(text)['event_id']}")
    assert "Addresses are not fetched" in text


def test_large_requests_are_refused(client, address, tmp_path):
    with pytest.raises(Exception, match=r"413|exceed|too large"):
        ask(client, bytes(11_000_000), tmp_path)
    # Refused by what it announces, before it is sent.
    host = address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.putrequest("POST", "/gradio_api/call/predict")
    connection.putheader("Content-Length", "20000000")
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413
    assert b"A request may have 14,000,000 bytes" in response.read()
    # And by what it sends, if it announces nothing.
    connection = http.client.HTTPConnection(host, timeout=30)
    chunks = (bytes(1_000_000) for _ in range(15))
    connection.request("POST", "/gradio_api/call/predict", chunks)
    assert connection.getresponse().status == 413


@pytest.mark.slow
def test_a_full_queue_refuses_politely(serving, tiny, finished):
    options = ("--max-queue", "2", "--concurrency", "1", "--model", str(finished))
    url = "data:image/png;base64," + base64.b64encode(EXAMPLE.read_bytes()).decode()
    with serving(tiny[1], *options) as (_, address):
        call = address + "/gradio_api/call/predict"
        found = []

        def one():
            found.append(post(call, {"data": [{"url": url}, "crop"]}))

        threads = [threading.Thread(target=one) for _ in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        codes = [status for status, _ in found]
        assert set(codes) == {200, 503}
        assert get(address + "/healthz")[0] == 200


def test_models_that_are_not_served(refused, tiny, finished, tmp_path):
    missing = refused(tiny[1], "--model", str(tmp_path / "none"))
    assert_one_line(missing, "no checkpoint in .*none")
    damaged = shutil.copytree(finished, tmp_path / "damaged")
    for step in (damaged / "checkpoints").iterdir():
        (step / "_CHECKPOINT_METADATA").write_text("{}")
    result = refused(tiny[1], "--model", str(damaged))
    assert result.returncode == 2
    assert re.search("error: every checkpoint .* is damaged", result.stderr)


def test_a_port_that_is_taken(refused, tiny, finished, address):
    port = address.rsplit(":", 1)[1]
    options = ("--model", str(finished), "--port", port)
    assert_one_line(refused(tiny[1], *options), "cannot listen .*choose another")
    assert_one_line(refused(tiny[1], "--max-queue", "0"), "--max-queue must be")
