import pytest

from jax_resnet.runtime.files import new_file


@pytest.mark.parametrize("settings", [{}, {"durable": True}, {"shared": True}])
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


def test_what_a_killed_process_left_is_overwritten(tmp_path):
    (tmp_path / ".a.tmp").write_bytes(b"a longer half of a file")
    with new_file(tmp_path / "a") as file:
        file.write(b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]
