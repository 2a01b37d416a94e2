import os
from pathlib import Path

import pytest

from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import new_file, write_atomically


@pytest.mark.parametrize("settings", [{}, {"shared": True}])
def test_a_file_appears_whole(tmp_path, settings):
    (tmp_path / "a").write_bytes(b"old")
    with new_file(tmp_path / "a", **settings) as file:
        file.write(b"new")
        assert (tmp_path / "a").read_bytes() == b"old"
    assert (tmp_path / "a").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupted_file_does_not_appear(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_links_and_pipes_are_written_to(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "link").is_symlink()
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file, os.fdopen(writer, "wb"):
        write_atomically(Path(f"/dev/fd/{writer}"), b"through a pipe")
        assert file.read1() == b"through a pipe"


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UserError, match=r"missing/x: No such file"):
        write_atomically(tmp_path / "missing" / "x", b"")
