import contextlib
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


@pytest.fixture
def serve():
    """Returns a function that serves one answer from this machine."""
    with contextlib.ExitStack() as stack:

        def start(content: bytes = CONTENT, *, status: int = 200, sent: int = -1):
            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content[: sent if sent >= 0 else None])

                def log_message(self, *_):
                    pass

            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}/archive.tar.gz"

        yield start


def fetch(url, path, connect_seconds=5.0, sha256=SHA256):
    download.download(
        url,
        path,
        sha256=sha256,
        size=len(CONTENT),
        remedy="do this",
        connect_seconds=connect_seconds,
    )


def fails(url, path, match, **options):
    with pytest.raises(UserError, match=match) as caught:
        fetch(url, path, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("do this")
    assert list(path.parent.iterdir()) == []


def test_arrives_verified(serve, tmp_path, capfd):
    fetch(serve(), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert capfd.readouterr().err == ""  # no bar where there is no terminal


def test_another_content(serve, tmp_path):
    fails(serve(CONTENT[:-1] + b"!"), tmp_path / "a", "incomplete or damaged")


def test_broken_off(serve, tmp_path):
    fails(serve(sent=1000), tmp_path / "a", "damaged|broke off")


def test_not_found(serve, tmp_path):
    fails(serve(status=404), tmp_path / "a", "404")


def test_no_such_host(tmp_path):
    started = time.monotonic()
    fails("http://no-such-host.invalid/a", tmp_path / "a", "cannot be downloaded")
    assert time.monotonic() - started < 9


def test_nobody_listens(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    fails(f"http://127.0.0.1:{port}/a", tmp_path / "a", "refused")


@pytest.mark.parametrize("drops", [False, True])
def test_a_silent_server_is_given_up(tmp_path, drops):
    with socket.create_server(("127.0.0.1", 0)) as server:
        if drops:  # a header that never ends outlives the timeout of a socket
            done = threading.Event()

            def drip():
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                    while not done.wait(0.05):
                        connection.sendall(b".")

            threading.Thread(target=drip, daemon=True).start()
        started = time.monotonic()
        port = server.getsockname()[1]
        url = f"http://127.0.0.1:{port}/a"
        fails(url, tmp_path / "a", "no answer in 0.5 s", connect_seconds=0.5)
        assert time.monotonic() - started < 3
        if drops:
            done.set()


def test_a_folder_that_cannot_be_written(serve, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError):
        fetch(serve(), tmp_path / "file" / "a")


def test_verify(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    download.verify(tmp_path / "a", SHA256)
    (tmp_path / "a").write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=r"incomplete.*delete it"):
        download.verify(tmp_path / "a", SHA256)
