import json
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
        "model.width": 1,
        "data.holdout": 0,
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 5e-4,
        "train.epochs": 150,
        "train.batch_size": 128,
    }
    assert {name: fields[name] for name in expected} == expected
    settings = {
        name
        for name in fields
        if name.startswith("augment.") and name != "augment.transforms"
    }
    assert fields.keys() - settings == config.FIELDS.keys()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.stem)
def test_every_config_loads_from_anywhere(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert config.load(str(path)).is_locked


@pytest.mark.parametrize(
    ("overrides", "name", "value"),
    [
        (["--config.optimizer.learning_rate=1"], "optimizer.learning_rate", 1.0),
        (["--config.optimizer.nesterov"], "optimizer.nesterov", True),
        (["--noconfig.optimizer.nesterov"], "optimizer.nesterov", False),
        (["--config.seed=1", "--config.seed=2"], "seed", 2),
        (
            ["--config.train.image_sizes=(1,)", "--config.train.image_sizes=(2,)"],
            "train.image_sizes",
            (2,),
        ),
    ],
)
def test_overrides(overrides, name, value):
    assert config.flatten(config.load(REFERENCE, overrides))[name] == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.model.dept=20", "no field 'model.dept'.*'model.depth'"),
        ("--config.model=20", "'model': it is a group, set model.depth"),
        ("--config.model.depth=deep", "model.depth=deep"),
        ("--config.model.width=1000000000", "model.width must be at most"),
        ("--config.optimizer.momentum=1.0", "momentum must be less than 1, not 1.0"),
        ("--config.mix.mixup=-0.1", "mix.mixup must be at least 0"),
        ("--config.optimizer.name=adam", "optimizer.name must be one of"),
        ("--config.model.dtype=float16", "model.dtype must be one of"),
        ("--config.optimizer.learning_rate=nan", "learning_rate must be a finite"),
        ("--config.optimizer.warmup_epochs=150", "less than train.epochs, 150"),
        ("--config.seed", "Missing value"),
        ("--config.data.dir=a\nb", r"data.dir must be printable text, not 'a\\nb'"),
        ("--config.augment.transforms=(1,)", "augment.transforms must be names"),
        ("--config.augment.transforms=({1},)", "set is not JSON"),
        ("--config.train.image_sizes=" + "-" * 20_000 + "1", "cannot set the config"),
        ("epochs=3", "unexpected argument 'epochs=3'"),
    ],
)
def test_bad_overrides(override, message):
    with pytest.raises(UserError, match=message) as caught:
        config.load(REFERENCE, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("x = 1", "no attribute 'get_config'"),
        ("def get_config(): return {}", "must return a ConfigDict"),
        ("raise SystemExit('a\\nb')", "SystemExit: a b"),
    ],
)
def test_files_that_are_no_configs(tmp_path, source, message):
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(UserError, match=message) as caught:
        config.load(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.py", "folder.py", "config.so", "x" * 5000])
def test_missing_and_foreign_files(tmp_path, name):
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "config.so").write_text("")
    with pytest.raises(UserError, match="no config file"):
        config.load(str(tmp_path / name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("config.train.epochs = 'many'", "TypeError.*'epochs'"),
        ("config.train.epochs = True", "train.epochs must be of type int"),
        ("config.train.epohcs = 3", "'train.epohcs'.*'train.epochs'"),
        ("del config.train", "no field 'train.initial_model'"),
        ("config.augment.mine = object()", "fails: TypeError.*not JSON"),
    ],
)
def test_fields_of_a_file_are_checked(tmp_path, change, message):
    path = tmp_path / "mine.py"
    path.write_text(
        f"import sys; sys.path.insert(0, {str(CONFIGS)!r})\n"
        "import resnet56\n"
        "def get_config():\n"
        "    config = resnet56.get_config()\n"
        "    config.unlock()\n"
        f"    {change}\n"
        "    return config\n"
    )
    with pytest.raises(UserError, match=message):
        config.load(str(path))


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
    overrides = [
        *("--config.model.depth=20", "--config.train.epochs=5"),
        "--config.model.dtype=float32",
    ]
    today = config.to_json(config.load(REFERENCE, overrides))
    assert config.differences(kept, today) == {}
    today["augment"]["rand_augment"]["bins"] = 30
    assert [*config.differences(kept, today)] == ["augment.rand_augment.bins"]


def test_json_has_lists_for_tuples():
    as_json = config.to_json(config.load(REFERENCE))
    assert as_json["augment"]["random_erasing"]["area"] == [0.02, 0.33]
    assert [*as_json] == sorted(as_json)
