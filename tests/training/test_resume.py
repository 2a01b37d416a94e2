import json

import pytest

from jax_resnet.runtime.errors import UserError
from jax_resnet.training.resume import resume_point


def test_an_empty_workdir_starts(tmp_path):
    assert resume_point(tmp_path, {"seed": 0}) is None


def test_the_same_config_starts_again(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": 0, "train": {"device": "gpu"}}')
    settings = {"seed": 0, "train": {"device": "cpu"}}
    assert resume_point(tmp_path, settings) is None


def test_another_config_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    settings = dict.fromkeys("abcdefg", 1)
    with pytest.raises(UserError, match=r"e was 'absent' and is 1; and 2 more; choose"):
        resume_point(tmp_path, settings)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"[" * 10**5])
def test_a_damaged_config_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config.json is damaged .*another --workdir"):
        resume_point(tmp_path, {"seed": 0})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"seed": 1},
            "seed was 0 and is 1; choose another --workdir to leave it alone$",
        ),
        ({"optimizer": {"momentum": 0}}, "or --accept-changes to go on"),
    ],
)
def test_what_may_be_changed_is_said(tmp_path, changed, message):
    before = {"seed": 0, "optimizer": {"momentum": 0.9}}
    (tmp_path / "config.json").write_text(json.dumps(before))
    with pytest.raises(UserError, match=message):
        resume_point(tmp_path, {**before, **changed})


def test_accepted_changes(tmp_path):
    before = {"seed": 0, "augment": {"cutout": {"size": 16}}}
    (tmp_path / "config.json").write_text(json.dumps(before))
    after = {**before, "augment": {"cutout": {"size": 8}}}
    assert resume_point(tmp_path, after, accept_changes=True) is None
    after["seed"] = 1
    with pytest.raises(UserError, match="another config: seed was 0 and is 1; choose"):
        resume_point(tmp_path, after, accept_changes=True)


def test_a_run_keeps_the_dtype_that_it_began_with(tmp_path):
    before = {"seed": 0, "model": {"dtype": "bfloat16"}}
    (tmp_path / "config.json").write_text(json.dumps(before))
    assert resume_point(tmp_path, {"seed": 0, "model": {"dtype": "auto"}}) is None
    with pytest.raises(UserError, match="dtype was 'bfloat16' and is 'float32'"):
        resume_point(tmp_path, {"seed": 0, "model": {"dtype": "float32"}})
