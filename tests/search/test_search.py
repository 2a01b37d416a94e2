"""The search trains, ranks, promotes, and continues after an interruption."""

import json
import statistics

import pytest
from command_line import assert_one_line, records, run_here

from jax_resnet.search.halving import promote
from jax_resnet.search.recipes import BaseConfig, Recipe
from jax_resnet.search.table import Row, RunResult, write_table

RECIPES = """
[reference]
why = "the base as it is"

[frozen]
optimizer.learning_rate = 0.0

[hot]
why = "far too hot"
optimizer.learning_rate = 1e30
"""
PLAIN = ("--config.augment.transforms=('normalize',)", "--config.mesh.devices=1")


def search(tiny, workdir, text, *arguments):
    recipes = workdir.with_suffix(".toml")
    recipes.write_text(text)
    options = ["--config", str(tiny), "--recipes", str(recipes)]
    options += ["--holdout=50", *PLAIN, *arguments]
    return run_here(tiny, workdir, *options, module="search.__main__")


def rows_of(workdir):
    rows = json.loads((workdir / "recipes.json").read_text())["rows"]
    return {(row["recipe"], row["epochs"]): row for row in rows}


def test_the_best_valid_scores_are_promoted():
    scores = {"a": 0.2, "b": 0.5, "c": None, "d": 0.4, "e": 0.3}
    assert promote(scores, 0.5) == ["b", "d"]
    assert promote(scores, 0.01) == ["b"]
    assert promote(scores, 1.0) == ["b", "d", "e", "a"]
    assert promote({"c": None}, 1.0) == []


def test_the_table_summarises_seeds(tiny, tmp_path):
    base = BaseConfig(str(tiny), ("--config.data.holdout=50",))
    full = Row(Recipe("full", "a | b", {"optimizer.momentum": 0.5}), 2, (0, 7))
    full.runs = {0: RunResult(0.5, 1.0, "CPU"), 7: RunResult(0.51, 3.0, "CPU")}
    hot = Row(Recipe("hot", "", {}), 2, (0,), {0: RunResult(None, 1.0, "CPU", "NaN")})
    rest = Row(Recipe("rest", "", {}), 2, (0, 7), {0: RunResult(0.6, 1.0, "CPU")})
    assert [row.state for row in (full, hot, rest)] == [
        *("finished", "diverged", "unfinished")
    ]
    page = write_table(tmp_path, base, [full, hot, rest])
    assert page == (tmp_path / "recipes.md").read_text()
    mean, std = statistics.fmean([0.5, 0.51]), statistics.stdev([0.5, 0.51])
    assert f"| full | 2 | {100 * mean:.2f} ± {100 * std:.2f} | 2 | finished |" in page
    assert "| hot | 0 |  | 1 | diverged |" in page
    assert "| full | `optimizer.momentum` = 0.5 | a \\| b |" in page
    assert "50 images held out of `train[:256]`" in page
    found = rows_of(tmp_path)["full", 2]["holdout_top1"]
    assert found == {"n": 2, "mean": pytest.approx(mean), "std": pytest.approx(std)}


@pytest.mark.ci
def test_a_search_ranks_promotes_and_continues(tiny, tmp_path):
    workdir = tmp_path / "search"
    options = ("--seeds=0", "--epochs=1,2", "--keep=0.5")
    # This process is older than a second, so the time is up before the first run.
    result = search(tiny, workdir, RECIPES, *options, "--max-seconds=10.01")
    assert result.returncode == 75, result.stderr
    assert {row["state"] for row in rows_of(workdir).values()} == {"unfinished"}

    result = search(tiny, workdir, RECIPES, *options)
    assert result.returncode == 0, result.stderr
    rows = rows_of(workdir)
    scores = {row: rows[row]["holdout_top1"]["mean"] for row in rows}
    winner = max(("reference", "frozen"), key=lambda name: scores[name, 1])
    assert rows[winner, 1]["state"] == "kept"
    assert sorted(row["state"] for row in rows.values()) == [
        *("diverged", "finished", "kept", "stopped")
    ]
    diverged = rows["hot", 1]["runs"]["0"]
    assert "not finite at step" in diverged["diverged"]
    assert diverged["holdout_top1"] is None
    assert result.stdout.endswith((workdir / "recipes.md").read_text() + "\n")
    folder = workdir / winner / "2-epochs" / "seed-0"
    last = records(folder)[-1]
    assert (last["epoch"], scores[winner, 2]) == (2, last["val_top1"])
    assert json.loads((folder / "config.json").read_text())["data"]["holdout"] == 50

    # What is complete is not trained again, and gives the same table.
    before = (folder / "log.md").stat().st_mtime_ns
    kept = "\n".join(text for text in RECIPES.split("\n\n") if "hot" not in text)
    result = search(tiny, workdir, kept, *options)
    assert result.returncode == 0, result.stderr
    assert (folder / "log.md").stat().st_mtime_ns == before
    again = rows_of(workdir)
    assert again == {key: row for key, row in rows.items() if key[0] != "hot"}

    changed = "[reference]\noptimizer.momentum = 0.5"
    result = search(tiny, workdir, changed, *options)
    assert_one_line(result, "holds a run of another config: optimizer.momentum was 0.9")


@pytest.mark.slow
def test_a_search_of_diverging_recipes_fails(tiny, tmp_path):
    hot = "[hot]\noptimizer.learning_rate = 1e30"
    result = search(tiny, tmp_path / "s", hot, "--seeds=0", "--epochs=1,2")
    assert_one_line(result, "every recipe of 1 epochs diverged")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.warmup = 1.0", "'a': .*did you mean 'optimizer.warmup_epochs'"),
        ("model.depth = 9", "recipe 'a': model.depth must be 6n"),
    ],
)
def test_bad_recipes_are_refused_before_training(tiny, tmp_path, text, message):
    recipes = f"[fine]\n[a]\n{text}"
    result = search(tiny, tmp_path / "s", recipes, "--epochs=1,2")
    assert_one_line(result, message)
    assert not (tmp_path / "s" / "fine").exists()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--keep=0", "--keep must be above 0"),
        ("--seeds=0,0", "--seeds must be"),
        ("--recipes=nowhere.toml", "cannot read 'nowhere.toml'"),
    ],
)
def test_bad_arguments(tiny, tmp_path, argument, message):
    assert_one_line(search(tiny, tmp_path / "s", "[a]", argument), message)
