"""Uploads to a stand-in for the Hub on this machine."""

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jax_resnet.formats import hub
from jax_resnet.runtime.errors import UserError

pytest.importorskip("huggingface_hub", reason="the extra 'export' is not installed")


class Hub(ThreadingHTTPServer):
    """Knows one token, and keeps what is committed."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.kind = {}, None
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, code, value):
        contents = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(contents)))
        self.end_headers()
        self.wfile.write(contents)

    def do_GET(self):
        self.answer(404, {"error": "not found"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer good":
            self.answer(403, {"error": "no"})
        elif self.path == "/api/repos/create":
            repository = json.loads(body)
            self.server.kind = repository.get("type", "model"), repository.get("sdk")
            url = f"{self.server.address}/user/{repository['name']}"
            self.answer(200, {"url": url})
        elif re.fullmatch("/api/(models|spaces)/user/name/preupload/main", self.path):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif re.fullmatch("/api/(models|spaces)/user/name/commit/main", self.path):
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    contents = base64.b64decode(item["value"]["content"])
                    self.server.files[item["value"]["path"]] = contents
            url = f"{self.server.address}/user/name/commit/{'0' * 40}"
            self.answer(200, {"commitUrl": url, "commitOid": "0" * 40})
        else:
            self.answer(200, {})


@pytest.fixture
def server(monkeypatch):
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "good")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)))
    return tmp_path


@pytest.mark.parametrize(("kind", "sdk"), [("model", None), ("space", "gradio")])
def test_every_file_arrives(folder, server, kind, sdk):
    hub.check("user/name")
    assert hub.push(folder, "user/name", kind) == f"{server.address}/user/name"
    assert server.files == {p.name: p.read_bytes() for p in folder.iterdir()}
    assert server.kind == (kind, sdk)


def test_a_token_without_the_right(folder, server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "reader")
    with pytest.raises(UserError, match=r"may not write to user/name \(HTTP 403\)"):
        hub.push(folder, "user/name")
    assert server.files == {}


def test_no_network(folder, server, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:1 did not.*hf upload"):
        hub.push(folder, "user/name")


def test_no_token(monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="needs a token"):
        hub.check("user/name")


@pytest.mark.parametrize("name", ["model", "a/b/c", "user/näme"])
def test_invalid_names(name):
    with pytest.raises(UserError, match="must be user/name"):
        hub.check(name)
