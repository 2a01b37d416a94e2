import pytest

from jax_resnet.formats.output import new_output
from jax_resnet.runtime.errors import UserError


def test_a_folder_appears_at_the_end(tmp_path):
    path = tmp_path / "missing" / "model"
    with new_output(path) as temporary:
        temporary.mkdir()
        (temporary / "inner").write_bytes(b"contents")
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path]
    assert (path / "inner").read_bytes() == b"contents"


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), new_output(tmp_path / "model") as temporary:
        temporary.write_bytes(b"contents")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(UserError, match="exists"), new_output(path) as temporary:
        temporary.write_bytes(b"contents")
        path.write_bytes(b"other")
    with pytest.raises(UserError, match="exists: choose"), new_output(path):
        pytest.fail("the block was entered")
    assert path.read_bytes() == b"other"
