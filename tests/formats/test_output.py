import pytest

from jax_resnet.formats.output import new_output, require, write_file
from jax_resnet.runtime.errors import UserError


def write(path, kind):
    if kind == "file":
        write_file(path, b"contents")
    else:
        path.mkdir()
        write_file(path / "inner", b"contents")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_it_appears_at_the_end_alone(tmp_path, kind):
    path = tmp_path / "model.onnx"
    with new_output(path) as temporary:
        assert temporary.suffix == ".onnx"
        write(temporary, kind)
        assert not path.exists()
    assert list(tmp_path.iterdir()) == [path]
    found = path if kind == "file" else path / "inner"
    assert found.read_bytes() == b"contents"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_nothing_is_left_of_what_fails(tmp_path, kind):
    with (
        pytest.raises(RuntimeError, match="wrong"),
        new_output(tmp_path / "model") as temporary,
    ):
        write(temporary, kind)
        raise RuntimeError("wrong")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_exists_is_left_alone(tmp_path, kind):
    path = tmp_path / "model"
    if kind == "link":
        path.symlink_to("nowhere")
    else:
        write(path, kind)
    with pytest.raises(UserError, match="exists: remove it"), new_output(path):
        pytest.fail("the block was entered")
    assert list(tmp_path.iterdir()) == [path]


def test_what_appears_meanwhile_is_left_alone(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(UserError, match="exists"), new_output(path) as temporary:
        write(temporary, "file")
        path.write_bytes(b"other")
    assert path.read_bytes() == b"other"


def test_no_folder_to_put_it_in(tmp_path):
    with pytest.raises(UserError, match="no folder"), new_output(tmp_path / "a" / "b"):
        pytest.fail("the block was entered")


def test_packages_that_are_not_installed():
    require("numpy", extra="export")
    with pytest.raises(UserError, match=r"needs no_such_package.*\[export\]"):
        require("numpy", "no_such_package", extra="export")
