import pytest

from jax_resnet.errors import UserError
from jax_resnet.resume import resume_point


def test_an_empty_workdir_starts(tmp_path):
    assert resume_point(tmp_path, {"seed": 0}, []) is None


def test_the_same_config_starts_again(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": 0, "free": 1}')
    assert resume_point(tmp_path, {"seed": 0, "free": 2}, ["free"]) is None


def test_another_config_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    settings = dict.fromkeys("abcdefg", 1)
    with pytest.raises(UserError, match=r"e was 'absent' and is 1; and 2 more; choose"):
        resume_point(tmp_path, settings, [])


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[1]", b"\xff\xfe"])
def test_a_damaged_config_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config.json is damaged .*another --workdir"):
        resume_point(tmp_path, {"seed": 0}, [])
