"""The app as its visitors see it, over HTTP."""

import http.client
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import app
import numpy as np
import pytest
from command_line import ROOT
from over_http import CALL, CHOOSE, SEVERAL, ask, data_url, png, request

from jax_resnet.distributed import device
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError

pytestmark = pytest.mark.slow
EXAMPLE = (ROOT / "serve" / "examples" / "apple.png").read_bytes()


def test_health(address):
    status, text = request(address + "/healthz")
    health = json.loads(text)
    assert status == 200
    assert health.pop("uptime_seconds") > 0
    model = {"model": "ResNet-8 on grey", "step": 9, "accuracy": None}
    assert health == {"status": "ok", **model}


def test_the_page_has_its_parts(address, folder):
    status, text = request(address)
    assert status == 200
    for part in (
        "ResNet-8 on grey, knows 10 things",
        "Several",
        "What it knows",
        "CC0",
    ):
        assert part in text
    assert text.count("data:image/jpeg;base64,") == 8  # the examples
    assert "mistakes.png" in text and request(address + "/mistakes.png")[0] == 200
    assert str(folder) not in text


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_the_api_returns_the_models_probabilities(address, folder, fit):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    answer = ask(address, data_url(png(pixels)), fit)
    predictor = Predictor.open(folder)
    (expected,) = predictor.predict(pixels[None])
    order = np.argsort(-expected)[:5]
    labels = [predictor.info.class_names[c].replace("_", " ") for c in order]
    assert [each["label"] for each in answer["top5"]] == labels
    found = [each["confidence"] for each in answer["top5"]]
    np.testing.assert_allclose(found, expected[order], rtol=1e-4)
    first = answer["label"], answer["confidence"], answer["superclass"]
    assert first == (labels[0], found[0], None)


def test_a_damaged_upload_gets_a_sentence(address):
    answer = ask(address, data_url(EXAMPLE[:9000]), "crop")
    assert answer.startswith("This is not an image that can be read")


@pytest.mark.parametrize(
    "arguments",
    [
        (data_url(EXAMPLE), "stretch"),
        (data_url(EXAMPLE), None),
        ([], None),
        (data_url(EXAMPLE), ["crop"]),
        (data_url(EXAMPLE),),
        (),
        ("apple.png", "crop"),
        ({"url": 1}, "crop"),
        ({}, "crop"),
        (None, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}),
    ],
    ids=lambda arguments: repr(arguments)[-20:],
)
@pytest.mark.parametrize("call", [CALL, SEVERAL])
def test_wrong_arguments_get_a_sentence_and_no_traceback(
    address, arguments, call, capfd
):
    answer = ask(address, *arguments, call=call)
    assert "data is [image, fit]: " in answer and '"crop" or "pad"' in answer
    assert capfd.readouterr().err == ""


def test_more_pictures_than_are_answered_at_once(address):
    images = [{"image": data_url(EXAMPLE[:99])}] * 21
    assert "Send 20 at most" in ask(address, images, "crop", call=SEVERAL)


def test_an_example_that_is_none_gets_no_traceback(address, capfd):
    assert ask(address, call=CHOOSE) is None
    assert capfd.readouterr().err == ""


def test_arguments_that_are_no_uploads(address, tmp_path):
    assert "no image" in ask(address, None, "crop")
    (tmp_path / "apple.png").write_bytes(EXAMPLE)
    for path in ("/etc/passwd", str(ROOT / "README.md"), str(tmp_path / "apple.png")):
        assert request(f"{address}/gradio_api/file={path}")[0] in (403, 404)
        image = {"path": path, "meta": {"_type": "gradio.FileData"}}
        assert "uploaded file" in ask(address, image, "crop")
    image = {"path": address + "/healthz", "meta": {"_type": "gradio.FileData"}}
    assert "Addresses are not fetched" in ask(address, image, "crop")
    status, text = request(f"{address}/gradio_api/file={address}/healthz")
    assert status == 403 and "Addresses are not fetched" in text


@pytest.mark.parametrize("path", [CALL, "/gradio_api/call/upload", "/upload"])
def test_large_requests_are_refused(address, path):
    host = address.removeprefix("http://")
    # By the announced size, before the body is sent.
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", "20000000")
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413
    assert b"A request may have 14,000,000 bytes" in response.read()
    # By the size of the body, if none is announced.
    connection = http.client.HTTPConnection(host, timeout=30)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", CALL, (bytes(10**6) for _ in range(15)), headers)
    assert connection.getresponse().status == 413


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
FIELD = b'--x\r\nContent-Disposition: form-data; name="files"'
FILE = FIELD + b'; filename="a.png"\r\n\r\n'


def upload(address, sizes, part=FILE):
    """Uploads files of these sizes in one request; returns the status."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    body = b"\r\n".join([*(part + bytes(size) for size in sizes), b"--x--\r\n"])
    connection.request("POST", "/gradio_api/upload", body, FORM)
    return connection.getresponse().status


def test_several_files_are_uploaded_at_once_each_of_limited_size(address):
    assert upload(address, [8_000_000] * 3) == 200
    assert upload(address, [8_000_000, 11_000_000]) == 413
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Length", "281000000")
    connection.endheaders()
    assert connection.getresponse().status == 413


def test_nothing_stays_of_an_upload_that_fails(address, capfd):
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    before = set(folder.iterdir())
    assert upload(address, [9], part=FIELD + b"\r\n\r\n") == 400  # it is no file
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    headers = FORM | {"Content-Length": "1000000"}
    connection.request("POST", "/gradio_api/upload", FILE + bytes(99_999), headers)
    wait_for(lambda: set(folder.iterdir()) - before)
    connection.close()
    wait_for(lambda: set(folder.iterdir()) == before)
    assert capfd.readouterr().err == ""


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def main(monkeypatch):
    """The command line in a thread, without lasting changes to this process."""
    monkeypatch.setattr(device, "select", lambda *_: None)
    monkeypatch.setattr(device, "cache_compilations", lambda *_: None)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    with ThreadPoolExecutor(1) as thread:
        yield lambda arguments: thread.submit(app.main, arguments).result()


def test_starts_that_are_refused(main, address, folder, tmp_path):
    with pytest.raises(UserError, match=r"no checkpoint in .*none"):
        main(["--port=0", f"--model={tmp_path / 'none'}"])
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(UserError, match="is damaged"):
        main(["--port=0", f"--model={tmp_path}"])
    port = address.rsplit(":", 1)[1]
    with pytest.raises(UserError, match=r"cannot listen .*choose another"):
        main([f"--port={port}"])
    with pytest.raises(UserError, match=r"cannot listen on a\.\.b"):
        main(["--host=a..b"])
    with pytest.raises(UserError, match="--port must be"):
        main(["--port=65536"])
    with pytest.raises(UserError, match="--max-queue must be"):
        main(["--max-queue=0"])


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("localhost", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("[::1]", "[::1]"),
    ],
)
def test_the_address_is_one_for_a_browser(serving, host, shown):
    from server import url

    with app.bind(host, 0) as listener:
        assert url(listener) == f"http://{shown}:{listener.getsockname()[1]}"
