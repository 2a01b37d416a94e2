import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from jax_resnet import config
from jax_resnet.runtime.errors import UserError

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
REFERENCE = str(CONFIGS / "resnet56.py")


def test_the_reference_has_the_fields_of_the_paper_and_no_others():
    fields = config.flatten(config.load(REFERENCE))
    expected = {
        "model.depth": 56,
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 5e-4,
        "train.epochs": 150,
        "train.batch_size": 128,
    }
    assert {name: fields[name] for name in expected} == expected
    others = fields.keys() - config.FIELDS.keys()
    assert config.FIELDS.keys() <= fields.keys()
    assert all(name.startswith("augment.") for name in others)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.stem)
def test_every_config_loads_from_anywhere(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert config.load(str(path)).is_locked


def test_overrides():
    overrides = [
        "--config.optimizer.learning_rate=1",
        "--noconfig.optimizer.nesterov",
        *("--config.seed=1", "--config.seed=2"),
        "--config.train.image_sizes=(8,)",
    ]
    changed = config.load(REFERENCE, overrides)
    assert changed.optimizer.learning_rate == 1.0
    assert not changed.optimizer.nesterov
    assert changed.seed == 2
    assert changed.train.image_sizes == (8,)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.model.dept=20", "no field 'model.dept'.*'model.depth'"),
        ("--config.model.depth=18", r"must be 6n\+2, such as 8, 14, 20 or 56, not 18"),
        ("--config.model=20", "'model': it is a group, set model.depth"),
        ("--config.model.width=1000000000", "model.width must be at most"),
        ("--config.optimizer.momentum=1.0", "momentum must be less than 1, not 1.0"),
        ("--config.optimizer.name=adam", "optimizer.name must be one of"),
        ("--config.optimizer.warmup_epochs=150", "less than train.epochs, 150"),
        ("--config.data.dir=a\nb", r"data.dir must be printable text, not 'a\\nb'"),
        ("--config.train.image_sizes=" + "-" * 20_000 + "1", "cannot set the config"),
        ("epochs=3", "unexpected argument 'epochs=3'"),
    ],
)
def test_bad_overrides(override, message):
    with pytest.raises(UserError, match=message) as caught:
        config.load(REFERENCE, [override])
    assert "\n" not in str(caught.value)


CHANGED = """
import resnet56
def get_config():
    config = resnet56.get_config()
    config.unlock()
    {}
    return config
"""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("x = 1", "KeyError: 'get_config'"),
        ("def get_config(): return {}", "must return a ConfigDict"),
        ("raise SystemExit('a\\nb')", "SystemExit: a b"),
        (CHANGED.format("config.train.epohcs = 3"), "'train.epohcs'.*'train.epochs'"),
        (
            CHANGED.format("config.augment.mine = object()"),
            "fails: TypeError.*not JSON",
        ),
    ],
)
def test_files_that_are_no_configs(tmp_path, source, message):
    shutil.copy(REFERENCE, tmp_path)  # a config can import its neighbours
    path = tmp_path / "mine.py"
    path.write_text(source)
    with pytest.raises(UserError, match=message) as caught:
        config.load(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.py", "config.so", "x" * 5000 + ".py"])
def test_missing_and_foreign_files(tmp_path, name):
    (tmp_path / "config.so").write_text("")
    with pytest.raises(UserError, match="no config file"):
        config.load(str(tmp_path / name))


def test_differences_name_the_fields():
    old = {"a": {"b": 1, "c": 2}, "d": [1, 2]}
    new = {"a": {"b": 1, "c": 3}, "d": [1, 2], "e": 5}
    assert config.differences(old, new) == {
        "a.c": "a.c was 2 and is 3",
        "e": "e was 'absent' and is 5",
    }


def test_a_config_of_an_older_version_is_read_as_it_was_meant():
    kept = json.loads((ROOT / "results/resnet20-cpu/config.json").read_text())
    assert "recipe" in kept["augment"] and "mix" not in kept
    values = ("model.depth=20", "train.epochs=5", "model.dtype=float32")
    overrides = [f"--config.{value}" for value in values]
    today = config.to_json(config.load(REFERENCE, overrides))
    assert config.differences(kept, today) == {}
    today["augment"]["rand_augment"]["bins"] = 30
    assert [*config.differences(kept, today)] == ["augment.rand_augment.bins"]


OWN = f"""
import sys
sys.path.insert(0, {str(CONFIGS)!r})
import resnet56

def noise(key, image, *, strength=1.0):
    return image * strength

def get_config():
    config = resnet56.get_config()
    with config.unlocked():
        config.augment.transforms = ("random_crop", noise, "normalize")
        config.augment.noise = {{"strength": 2.0}}
    return config
"""


def test_a_function_is_kept_as_its_name_and_a_digest(tmp_path):
    paths = [tmp_path / name for name in ("same.py", "again.py", "other.py")]
    for path in paths:
        path.write_text(OWN)
    paths[2].write_text(OWN.replace("image * ", "image + "))
    override = "--config.augment.noise.strength=3"
    loaded = [config.load(str(path), [override]) for path in paths]
    same, again, other = map(config.to_json, loaded)
    assert re.fullmatch(r"noise \(sha256 \w{12}\)", same["augment"]["transforms"][1])
    assert same["augment"]["noise"] == {"strength": 3.0}
    assert not config.differences(same, again)
    assert config.fingerprint(same) == config.fingerprint(again)
    assert [*config.differences(same, other)] == ["augment.transforms"]
    assert "'noise (sha256 " in config.render(loaded[0])


@pytest.mark.parametrize("begins", ["noise (", "noise[T](", "noi\u017fe("])
def test_a_function_may_be_written_in_any_way(tmp_path, begins):
    if "[" in begins and sys.version_info < (3, 12):
        pytest.skip("Python 3.12 has introduced type parameters")
    path = tmp_path / "own.py"
    path.write_text(OWN.replace("noise(", begins))
    transforms = config.to_json(config.load(str(path)))["augment"]["transforms"]
    assert transforms[1].startswith("noise (sha256 ")


def test_a_function_without_source_is_refused():
    found = {}
    exec("def noise(key, image): return image", found)
    settings = config.load(REFERENCE).copy_and_resolve_references().unlock()
    settings.augment.transforms = (found["noise"], "normalize")
    with pytest.raises(UserError, match=r"the source of .noise., .* cannot be read"):
        config.to_json(settings)
