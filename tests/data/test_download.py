import hashlib
import http.server
import threading

import pytest

from jax_resnet.data import download

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


def fetch(url, path):
    download.download(url, path, sha256=SHA256, size=len(CONTENT))


def test_arrives_verified(server, tmp_path, capfd):
    fetch(f"{server}/whole", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert capfd.readouterr().err == ""  # no bar where there is no terminal


@pytest.mark.parametrize(
    ("path", "match"),
    [("/damaged", "damaged"), ("/cut", "incomplete"), ("/missing", "404")],
)
def test_failed_downloads_leave_nothing(server, tmp_path, path, match):
    with pytest.raises(OSError, match=match):
        fetch(server + path, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
