"""The search over recipes: what it trains, what it keeps, and how it goes on."""

import json
import signal
import statistics
import subprocess
import sys
import time
from functools import partial

import jax
import numpy as np
import pytest
from command_line import assert_one_line, records, wait_for
from metadata_fixtures import record, run_metadata

from jax_resnet import data
from jax_resnet.predict import Predictor
from jax_resnet.reporting.report import read_summary
from jax_resnet.runtime.errors import UserError
from jax_resnet.search import __main__, halving
from jax_resnet.training.loop import DivergedError
from jax_resnet.training.task import Result

RECIPES = """
[reference]
why = "the base as it is"

[hot]
why = "far too hot"
"optimizer.learning_rate" = 1e30
"""
HOLDOUT = 50
PLAIN = "--config.augment.transforms=('normalize',)"  # is quick to compile


def search_of(tiny, workdir, text, *arguments):
    recipes = workdir.with_suffix(".toml")
    recipes.write_text(text)
    return [
        *("--config", str(tiny[0]), "--recipes", str(recipes)),
        *("--workdir", str(workdir), "--holdout", str(HOLDOUT)),
        *arguments,
    ]


def table_of(workdir):
    rows = json.loads((workdir / "recipes.json").read_text())["rows"]
    return {(row["recipe"], row["epochs"]): row for row in rows}


def without_seconds(table):
    return {
        key: {
            seed: {k: v for k, v in run.items() if k != "seconds"}
            for seed, run in row["runs"].items()
        }
        | {"state": row["state"]}
        for key, row in table.items()
    }


@pytest.fixture
def here(monkeypatch, tiny):
    """Runs the command in this process, and leaves JAX as it was."""
    before = jax.config.jax_default_device
    monkeypatch.setenv("XDG_CACHE_HOME", tiny[1]["XDG_CACHE_HOME"])
    yield lambda *arguments: __main__.main(search_of(tiny, *arguments))
    jax.config.update("jax_default_device", before)


@pytest.fixture
def pretended(monkeypatch, here):
    """The command with runs that take no time: ``(begun, command)``.

    Their holdout accuracies are given by name; None diverges. The test images would
    rank them the other way round.
    """
    begun = []

    def command(holdout, *arguments, stop_at=None):
        def train(task, processes, interrupt, devices):
            begun.append((task.name, task.settings.train.epochs, task.settings.seed))
            if len(begun) == stop_at:
                interrupt._signal = signal.SIGTERM
                return Result(task.workdir, run_metadata(), stopped_by="SIGTERM")
            top1 = holdout[task.name]
            if top1 is None:
                raise DivergedError("the loss is not finite at step 3: cool down")
            last = record(1, val_top1=top1 + task.settings.seed / 1000)
            return Result(task.workdir, run_metadata([last]))

        def measure(_, result):
            top1 = result.last["val_top1"]
            found = {"holdout_top1": top1, "test_top1": 1 - top1}
            return found | {"seconds": 2.0, "device": "nothing"}

        monkeypatch.setattr(halving, "train", train)
        monkeypatch.setattr(halving.Search, "_measure", measure)
        return here(*arguments, "--config.mesh.devices=1")

    return begun, command


def recipes_named(*names):
    return "".join(
        f"[{name}]\noptimizer.momentum = 0.{i}\n" for i, name in enumerate(names)
    )


def predictions(workdir, images):
    return Predictor.open(workdir, "latest").logits(images).argmax(axis=1)


@pytest.mark.slow
def test_a_search_is_interrupted_and_goes_on(tiny, tmp_path):
    workdir = tmp_path / "search"
    arguments = search_of(tiny, workdir, RECIPES, "--seeds=0,1", "--epochs=2", PLAIN)
    start = partial(
        subprocess.Popen,
        [sys.executable, "-m", "jax_resnet.search", *arguments],
        env=tiny[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    process = start()
    wait_for(process, "reference, 2 epochs, seed 0: .* on the holdout")
    runs = workdir / "reference" / "2-epochs"
    while not (runs / "seed-1" / "summary.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert not read_summary(runs / "seed-1")["complete"]
    table = table_of(workdir)
    assert list(table["reference", 2]["runs"]) == ["0"]
    assert {row["state"] for row in table.values()} == {"unfinished"}
    log = runs / "seed-0" / "log.md"
    before = log.stat().st_mtime_ns

    process = start()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "reference, 2 epochs, seed 0" not in output
    assert log.stat().st_mtime_ns == before
    assert output.endswith((workdir / "recipes.md").read_text() + "\n")
    table = table_of(workdir)
    assert table["reference", 2]["state"] == "finished"
    assert table["hot", 2]["state"] == "diverged"
    for run in table["hot", 2]["runs"].values():
        assert "not finite at step" in run["diverged"]
        assert (run["holdout_top1"], run["test_top1"]) == (None, None)

    # The figures are those of the last epoch, and of its model on the test images.
    _, test = data.load_split("synthetic", "test[:100]", data_dir=None)
    for seed, run in table["reference", 2]["runs"].items():
        folder = runs / f"seed-{seed}"
        _, last = records(folder)
        assert run["holdout_top1"] == last["val_top1"]
        assert round(HOLDOUT * run["holdout_top1"], 6).is_integer()
        predicted = predictions(folder, test.images)
        assert run["test_top1"] == np.mean(predicted == test.labels)
        command = json.loads((folder / "config.json").read_text())
        assert command["seed"] == int(seed) and command["data"]["holdout"] == HOLDOUT


def test_the_holdout_alone_decides_who_goes_on(pretended, tmp_path):
    begun, command = pretended
    holdout = {"a": 0.2, "b": 0.5, "c": None, "d": 0.4, "e": 0.3}
    names = recipes_named(*holdout)
    rungs = ("--seeds=0,7", "--epochs=1,2,3", "--keep=0.5")
    assert command(holdout, tmp_path / "s", names, *rungs) == 0
    by_rung = [
        *(("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)),
        *(("b", 2), ("d", 2), ("b", 3)),
    ]
    assert begun == [(*row, seed) for row in by_rung for seed in (0, 7)]
    table = table_of(tmp_path / "s")
    assert [(row["state"]) for row in table.values()] == [
        *("stopped", "kept", "diverged", "kept", "stopped"),
        *("kept", "stopped", "finished"),
    ]
    mean, deviation = statistics.fmean([0.5, 0.507]), statistics.stdev([0.5, 0.507])
    found = table["b", 3]["holdout_top1"]
    assert found == {
        "n": 2,
        "mean": pytest.approx(mean),
        "std": pytest.approx(deviation),
    }
    assert table["b", 3]["test_top1"]["mean"] == pytest.approx(1 - mean)
    page = (tmp_path / "s" / "recipes.md").read_text()
    row = f"| b | 2 | {100 * mean:.2f} ± {100 * deviation:.2f} | 49.65 ± 0.49 | 2 |"
    assert f"{row} finished |" in page
    assert "| c | 0 |  |  | 0 | diverged |" in page
    assert "50 images that were held out of `train[:256]` rank the recipes" in page
    assert "`test[:100]` was measured once" in page


def test_what_is_done_is_not_done_again(pretended, tmp_path, capsys):
    begun, command = pretended
    holdout = {"a": 0.2, "b": 0.5, "c": 0.4}
    search = (tmp_path / "s", recipes_named(*holdout), "--seeds=0,1", "--epochs=1,2")
    assert command(holdout, *search, stop_at=4) == 143
    assert "b, 1 epochs, seed 1: stopped; the same command resumes" in (
        capsys.readouterr().out
    )
    assert table_of(tmp_path / "s")["b", 1]["state"] == "unfinished"
    assert command(holdout, *search) == 0
    assert begun[3] == begun[4] == ("b", 1, 1)
    assert len(begun) == 1 + 3 * 2 + 2
    assert "left" in capsys.readouterr().out
    before = table_of(tmp_path / "s")
    assert command(holdout, *search) == 0
    assert len(begun) == 9 and table_of(tmp_path / "s") == before

    # What other recipes and seeds gave stays in the table.
    one = (tmp_path / "s", recipes_named("a") + "[z]", "--seeds=2", "--epochs=1")
    assert command(holdout | {"z": 0.9}, *one) == 0
    table = table_of(tmp_path / "s")
    assert set(table) == {*before, ("z", 1)}
    assert list(table["a", 1]["runs"]) == ["0", "1", "2"]
    assert table["b", 1] == before["b", 1]


def test_another_search_leaves_the_table_alone(pretended, tmp_path):
    _, command = pretended
    options = ("--seeds=0", "--epochs=1")
    assert command({"a": 0.5}, tmp_path / "s", "[a]", *options) == 0
    before = table_of(tmp_path / "s")
    with pytest.raises(UserError, match="recipe 'a' is another"):
        command({}, tmp_path / "s", "[a]\noptimizer.momentum = 0.5", *options)
    with pytest.raises(UserError, match=r"data\.holdout was 50 and is 40"):
        command({}, tmp_path / "s", "[a]", *options, "--holdout=40")
    assert table_of(tmp_path / "s") == before
    path = tmp_path / "s" / "recipes.json"
    halved = json.loads(path.read_text())
    del halved["rows"][0]["runs"]
    for text in ("[]", json.dumps(halved), "[" * 10**5):
        path.write_text(text)
        with pytest.raises(UserError, match="is damaged: move it away"):
            command({}, tmp_path / "s", "[a]", *options)


def test_all_recipes_may_diverge(pretended, tmp_path):
    begun, command = pretended
    with pytest.raises(UserError, match="every recipe of 1 epochs diverged"):
        command({"a": None}, tmp_path / "s", "[a]", "--seeds=0", "--epochs=1,2")
    assert len(begun) == 1
    assert table_of(tmp_path / "s")["a", 1]["state"] == "diverged"


def test_each_option_is_added_and_removed(pretended, tmp_path):
    begun, command = pretended
    two = "[x]\noptimizer.momentum = 0.5\noptimizer.nesterov = true\n[y]"
    names = (
        "x",
        "base",
        "x-without-optimizer.momentum",
        "base-with-optimizer.momentum",
    )
    holdout = dict.fromkeys(names, 0.5)
    options = ("--seeds=0", "--epochs=1", "--ablate=x")
    assert command(holdout, tmp_path / "s", two, *options) == 0
    assert {name for name, _, _ in begun} == set(names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a", "is not TOML"),
        ("", "has no recipe"),
        ("a = 1", "a table for each recipe"),
        ("['../a']", "named by letters"),
        ("[a]\nwhy = 1", "why must be text"),
        (
            "[a]\noptimizer.warmup = 1.0",
            "'a': .*did you mean 'optimizer.warmup_epochs'",
        ),
        ("[a]\noptimizer = 1.0", "it is a group"),
        ("[a]\noptimizer.momentum = '0.5'", "'a': optimizer.momentum must be of type"),
        ("[a]\nmodel.depth = 8.0", "recipe 'a': .*depth"),
        ("[a]\noptimizer.nesterov = 1", "'a': optimizer.nesterov must be of type bool"),
        ("[a]\n'model.dtype=x' = 'y'", "recipe 'a'"),
        ("[a]\nmodel.depth = 9", "recipe 'a': model.depth must be 6n"),
        ("[a]\naugment.transforms = ['cutot', 'normalize']", "did you mean 'cutout'"),
        ("[a]\ndata.holdout = 7", "sets data.holdout, which is the same for all"),
        ("[a]\nseed = 7", "sets seed"),
        ("[a]\noptimizer.warmup_epochs = 1.0", "less than train.epochs, 1"),
    ],
)
def test_bad_recipes_are_refused_before_anything_is_trained(
    pretended, tmp_path, text, message
):
    begun, command = pretended
    with pytest.raises(UserError, match=message):
        command({}, tmp_path / "s", text and f"{text}\n[fine]", "--epochs=1,2")
    assert begun == []


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--epochs=2,1", "--epochs must be rising"),
        ("--epochs=0", "--epochs must be rising"),
        ("--keep=0", "--keep must be above 0"),
        ("--keep=nan", "--keep must be above 0"),
        ("--holdout=0", "--holdout must be at least 1"),
        ("--holdout=256", "data.holdout is 256"),
        ("--seeds=0,0", "--seeds must be"),
        ("--max-seconds=1", "--max-seconds must be more than 10"),
        ("--recipes=nowhere.toml", "cannot read 'nowhere.toml'"),
        ("--nonsense", "nonsense"),
    ],
)
def test_bad_arguments(here, tmp_path, argument, message):
    with pytest.raises(UserError, match=message):
        here(tmp_path / "s", "[a]", argument)


def test_the_command_refuses_in_one_line(tiny, tmp_path):
    arguments = search_of(tiny, tmp_path / "s", "[a]\nx = 1")
    command = [sys.executable, "-m", "jax_resnet.search", *arguments]
    result = subprocess.run(command, env=tiny[1], capture_output=True, text=True)
    assert_one_line(result, "recipe 'a': config has no field 'x'")
