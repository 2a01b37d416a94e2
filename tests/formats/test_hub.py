"""Uploading, to a stand-in for the Hub on this machine."""

import base64
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from command_line import assert_one_line

from jax_resnet.formats import hub
from jax_resnet.runtime.errors import UserError

pytest.importorskip("huggingface_hub", reason="the extra 'export' is not installed")

PUSH = """
import sys
from pathlib import Path
from jax_resnet.runtime.command_line import run
from jax_resnet.formats import hub

def main():
    hub.check(sys.argv[2])
    print(hub.push(Path(sys.argv[1]), *sys.argv[2:]))
    return 0

run(main)
"""


class Hub(ThreadingHTTPServer):
    """Knows one token, and keeps what is committed."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.kind = None
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def _answer(self, code, value):
        contents = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(contents)))
        self.end_headers()
        self.wfile.write(contents)

    def do_GET(self):
        self._answer(404, {"error": "not found"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer good":
            known = self.headers["Authorization"] == "Bearer reader"
            return self._answer(403 if known else 401, {"error": "no"})
        if self.path == "/api/repos/create":
            repository = json.loads(body)
            name = repository["name"]
            self.server.kind = repository.get("type", "model"), repository.get("sdk")
            return self._answer(200, {"url": f"{self.server.address}/user/{name}"})
        if re.fullmatch("/api/(models|spaces)/user/name/preupload/main", self.path):
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                for f in files
            ]
            return self._answer(200, {"files": modes})
        if re.fullmatch("/api/(models|spaces)/user/name/commit/main", self.path):
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    contents = base64.b64decode(item["value"]["content"])
                    self.server.files[item["value"]["path"]] = contents
            url = f"{self.server.address}/user/name/commit/{'0' * 40}"
            return self._answer(200, {"commitUrl": url, "commitOid": "0" * 40})
        return self._answer(200, {})


@pytest.fixture
def server():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(bytes(range(256)))
    return path


def push(folder, endpoint, token, *more):
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder.parent / "home"),
        "HF_TOKEN": token,
        "PYTHONPATH": str(Path(hub.__file__).parents[2]),
    }
    return subprocess.run(
        [sys.executable, "-c", PUSH, str(folder), "user/name", *more],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_every_file_arrives(folder, server):
    result = push(folder, server.address, "good")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{server.address}/user/name\n"
    assert server.files == {p.name: p.read_bytes() for p in folder.iterdir()}
    assert server.kind == ("model", None)


def test_a_space_runs_gradio(folder, server):
    result = push(folder, server.address, "good", "space")
    assert result.returncode == 0, result.stderr
    assert server.kind == ("space", "gradio")
    assert len(server.files) == 2


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "needs a token"),
        ("reader", r"may not write to user/name \(HTTP 403\)"),
        ("unknown", r"may not write to user/name \(HTTP 401\)"),
    ],
)
def test_without_the_right_nothing_is_uploaded(folder, server, token, message):
    assert_one_line(push(folder, server.address, token), message)
    assert server.files == {}


def test_without_a_network(folder, server):
    nowhere = "http://127.0.0.1:1"
    result = push(folder, nowhere, "good")
    assert_one_line(result, "at http://127.0.0.1:1 cannot be reached.*hf upload")


@pytest.mark.parametrize("name", ["model", "a/b/c", "user/", "user/näme", "../x y"])
def test_names_that_are_none(name):
    with pytest.raises(UserError, match="must be user/name"):
        hub.check(name)
