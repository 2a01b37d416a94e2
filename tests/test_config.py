from pathlib import Path

import pytest

from jax_resnet import config
from jax_resnet.fields import FIELDS
from jax_resnet.runtime.errors import UserError

CONFIGS = Path(__file__).parent.parent / "configs"
REFERENCE = str(CONFIGS / "resnet56.py")


def test_reference_recipe():
    fields = config.flatten(config.load(REFERENCE))
    expected = {
        "model.depth": 56,
        "model.width": 1,
        "model.shortcut": "projection",
        "data.name": "cifar100",
        "data.train_split": "train",
        "data.eval_split": "test",
        "data.holdout": 0,
        "augment.recipe": (
            "random_crop",
            "random_flip",
            "random_rotation",
            "color_jitter",
            "normalize",
            "random_erasing",
            "cutout",
        ),
        "augment.random_crop.padding": 4,
        "augment.random_flip.probability": 0.5,
        "augment.random_rotation.degrees": 15.0,
        "augment.color_jitter.brightness": 0.2,
        "augment.color_jitter.contrast": 0.2,
        "augment.color_jitter.saturation": 0.2,
        "augment.random_erasing.probability": 0.5,
        "augment.random_erasing.area": (0.02, 0.33),
        "augment.random_erasing.aspect": (0.3, 3.3),
        "augment.cutout.size": 16,
        "optimizer.learning_rate": 0.1,
        "optimizer.warmup_epochs": 0.0,
        "optimizer.momentum": 0.9,
        "optimizer.nesterov": False,
        "optimizer.weight_decay": 5e-4,
        "optimizer.weight_decay_on": "all",
        "train.epochs": 150,
        "train.batch_size": 128,
    }
    assert {name: fields[name] for name in expected} == expected


def test_reference_has_exactly_the_known_fields():
    fields = config.flatten(config.load(REFERENCE))
    known = {name for name in fields if not name.startswith("augment.")}
    assert known | {"augment.recipe"} == set(FIELDS)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.stem)
def test_every_config_loads_from_anywhere(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert config.load(str(path)).is_locked


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        (["--config.model.depth=20"], "model.depth", 20),
        (["--config.model.depth", "20"], "model.depth", 20),
        (["--config.optimizer.learning_rate=1"], "optimizer.learning_rate", 1.0),
        (["--config.optimizer.nesterov"], "optimizer.nesterov", True),
        (["--noconfig.optimizer.nesterov"], "optimizer.nesterov", False),
        (["--config.augment.recipe=('normalize',)"], "augment.recipe", ("normalize",)),
        (["--config.seed=1", "--config.seed=2"], "seed", 2),
        (
            [
                "--config.augment.recipe=('cutout',)",
                "--config.augment.recipe=('a', 'b')",
            ],
            "augment.recipe",
            ("a", "b"),
        ),
        (
            [
                *("--config.augment.recipe", "('cutout',)"),
                *("--config.optimizer.nesterov", "-config.augment.recipe=('a', 'b')"),
            ],
            "augment.recipe",
            ("a", "b"),
        ),
        (
            [
                "--config.augment.recipe=('a', 'b')",
                *("--config.augment.recipe", "('cutout',)"),
            ],
            "augment.recipe",
            ("cutout",),
        ),
    ],
)
def test_overrides(override, name, value):
    assert config.flatten(config.load(REFERENCE, override))[name] == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.model.dept=20", "no field 'model.dept'.*'model.depth'"),
        ("--config.model=20", "'model': it is a group, set model.depth"),
        ("--config.model.depth=deep", "model.depth=deep"),
        ("--config.model.depth=20.5", "model.depth=20.5"),
        ("--config.seed=-1", "seed must be at least 0"),
        ("--config.seed=4294967296", "seed must be at most"),
        ("--config.model.width=1000000000", "model.width must be at most"),
        ("--config.optimizer.learning_rate=nan", "learning_rate must be a finite"),
        ("--config.optimizer.weight_decay=1e400", "weight_decay must be a finite"),
        ("--config.optimizer.warmup_epochs=150", "less than train.epochs, 150"),
        ("--config.train.epochs=0", "train.epochs must be at least 1"),
        ("--config.seed", "Missing value"),
        ("--config.data.dir=a\nb", r"data.dir must be printable text, not 'a\\nb'"),
        ("--config.augment.recipe=(1,)", "augment.recipe must be a tuple of names"),
        ("--config.augment.recipe=({1},)", "set is not JSON"),
        ("--config.augment.recipe=" + "-" * 20_000 + "1", "cannot set the config"),
        ("--epochs=3", "epochs"),
        ("epochs=3", "unexpected argument 'epochs=3'"),
        ("--flagfile=/dev/null", "unexpected argument"),
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
        ("1 / 0", "ZeroDivisionError"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("x = 1", "defines no function get_config"),
        ("def get_config(): return {}", "must return an ml_collections.ConfigDict"),
        ("def get_config(): raise KeyError('a\\nb')", "KeyError"),
        ("raise SystemExit('a\\nb')", "SystemExit: a b"),
        ("\0", "config"),
    ],
)
def test_files_that_are_no_configs(tmp_path, source, message):
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(UserError, match=message) as caught:
        config.load(str(path))
    assert "\n" not in str(caught.value)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(UserError, match="no config file"):
        config.load(str(tmp_path / "missing.py"))
    with pytest.raises(UserError, match="no config file"):
        config.load(str(tmp_path))
    with pytest.raises(UserError, match="no config file"):
        config.load("x" * 5000)
    for name in ("config.yaml", "config.so"):
        (tmp_path / name).write_text("a: 1")
        with pytest.raises(UserError, match="not a Python file"):
            config.load(str(tmp_path / name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("config.train.epochs = 'many'", "TypeError.*'epochs'"),
        ("config.train.epochs = True", "train.epochs must be of type int"),
        ("config.train.epohcs = 3", "'train.epohcs'.*'train.epochs'"),
        ("del config.train.epochs", "no field 'train.epochs'"),
        ("del config.train", "no field 'train.epochs'"),
        ("config.augment.mine = object()", "fails: TypeError.*not JSON"),
        ("config.me = config", "fails: RecursionError"),
        (
            "import ml_collections; config = ml_collections.FrozenConfigDict(config)",
            "not FrozenConfigDict",
        ),
    ],
)
def test_fields_of_a_file_are_checked(tmp_path, change, message):
    path = tmp_path / "mine.py"
    path.write_text(
        f"import sys; sys.path.insert(0, {str(CONFIGS)!r})\n"
        "import resnet56\n"
        "def get_config():\n"
        "    config = resnet56.get_config().copy_and_resolve_references()\n"
        "    config.unlock()\n"
        f"    {change}\n"
        "    return config\n"
    )
    with pytest.raises(UserError, match=message):
        config.load(str(path))


def test_differences_name_the_fields():
    old = {"a": {"b": 1, "c": 2}, "d": [1, 2]}
    new = {"a": {"b": 1, "c": 3}, "d": [1, 2], "e": 5}
    assert list(config.differences(old, new)) == [
        "a.c was 2 and is 3",
        "e was 'absent' and is 5",
    ]
    assert list(config.differences(old, new, ["a.c", "e"])) == []


def test_the_policies_defaults_are_no_difference_from_a_run_before_them():
    new = config.to_json(config.load(REFERENCE))
    old = config.to_json(config.load(REFERENCE))
    del old["augment"]["trivial_augment"], old["augment"]["rand_augment"]
    assert list(config.differences(old, new)) == []
    new["augment"]["trivial_augment"]["bins"] = 30
    assert list(config.differences(old, new)) == [
        "augment.trivial_augment.bins was 31 and is 30"
    ]


def test_differences_of_hostile_configs_are_short():
    (line,) = config.differences({"a\nb" * 999: "c" * 9999}, {})
    assert line.startswith("a ba b")
    assert len(line) < 700


def test_json_has_lists_for_tuples():
    as_json = config.to_json(config.load(REFERENCE))
    assert as_json["augment"]["random_erasing"]["area"] == [0.02, 0.33]
    assert as_json["model"]["depth"] == 56
