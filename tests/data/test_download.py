import hashlib

import pytest

from jax_resnet.data import download

CONTENT = bytes(range(256)) * 9000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def fetch(source, path):
    download.download(source.as_uri(), path, sha256=SHA256, size=len(CONTENT))


def test_arrives_verified(tmp_path, capfd):
    (tmp_path / "source").write_bytes(CONTENT)
    fetch(tmp_path / "source", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert {file.name for file in tmp_path.iterdir()} == {"source", "a"}
    assert capfd.readouterr().err == ""  # no bar where there is no terminal


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"!", CONTENT[:1000]])
def test_damaged_downloads_leave_nothing(tmp_path, content):
    (tmp_path / "source").write_bytes(content)
    with pytest.raises(OSError, match="arrived incomplete or damaged"):
        fetch(tmp_path / "source", tmp_path / "a")
    assert [file.name for file in tmp_path.iterdir()] == ["source"]
