import hashlib
import http.server
import socket
import threading
import time

import pytest

from jax_resnet.data import download
from jax_resnet.runtime.errors import UserError

CONTENT = bytes(range(256)) * 9000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the content whole, damaged or cut off, as the path says."""

    def do_GET(self):
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        content = {"/damaged": CONTENT[:-1] + b"!", "/cut": CONTENT[:1000]}
        self.wfile.write(content.get(self.path, CONTENT))

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def fetch(url, path, connect_seconds=5.0):
    download.download(
        url,
        path,
        sha256=SHA256,
        size=len(CONTENT),
        remedy="do this",
        connect_seconds=connect_seconds,
    )


def fails(url, folder, match, **options):
    with pytest.raises(UserError, match=match) as caught:
        fetch(url, folder / "a", **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("do this")
    assert list(folder.iterdir()) == []


def test_arrives_verified(server, tmp_path, capfd):
    fetch(f"{server}/whole", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert capfd.readouterr().err == ""  # no bar where there is no terminal


def test_failed_downloads_leave_nothing(server, tmp_path):
    fails(f"{server}/damaged", tmp_path, "incomplete or damaged")
    fails(f"{server}/cut", tmp_path, "damaged|broke off")
    fails(f"{server}/missing", tmp_path, "404")


def test_no_server(tmp_path):
    fails("http://no-such-host.invalid/a", tmp_path, "cannot be downloaded")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    fails(f"http://127.0.0.1:{port}/a", tmp_path, "refused")


def test_a_silent_server_is_given_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        started = time.monotonic()
        fails(url, tmp_path, "no answer in 0.2 s", connect_seconds=0.2)
        assert time.monotonic() - started < 3


def test_verify(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    download.verify(tmp_path / "a", SHA256)
    (tmp_path / "a").write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=r"incomplete.*delete it"):
        download.verify(tmp_path / "a", SHA256)
