"""What README and the kept runs claim is what their files hold."""

import json
import re
from pathlib import Path

import pytest

from jax_resnet.checkpoint import store
from jax_resnet.checkpoint.history import best_epoch
from jax_resnet.checkpoint.metadata import RunMetadata

ROOT = Path(__file__).parent.parent
RUNS = sorted(path.parent for path in ROOT.glob("results/*/summary.json"))


def load(path):
    return json.loads(path.read_text())


@pytest.fixture(params=RUNS, ids=lambda path: path.name)
def run(request):
    return request.param


def test_there_are_runs():
    assert RUNS


def test_summary_log_and_metrics_agree(run):
    summary = load(run / "summary.json")
    history = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    assert summary["complete"] is True
    assert [r["epoch"] for r in history] == [*range(1, summary["epochs"] + 1)]
    assert (summary["last"], summary["best"]) == (history[-1], best_epoch(history))
    log = (run / "log.md").read_text()
    for record in history:
        top1 = f"{100 * record['val_top1']:.2f}"
        assert re.search(rf"^\| \**{record['epoch']}\** \|.*\b{top1}\b", log, re.M)


def test_checkpoint_and_evaluation_agree(run):
    summary = load(run / "summary.json")
    best = store.select(run, "best")
    best.arrays("model")
    metadata = RunMetadata.from_json(best.metadata)
    assert metadata.history[-1] == summary["best"]
    assert metadata.config == load(run / "config.json")
    report = load(run / "evaluation-test.json")
    assert report["n"] == 10_000
    assert abs(report["top1"] - summary["best"]["val_top1"]) <= 0.0005


def test_readme_quotes_the_run(run):
    summary = load(run / "summary.json")
    row = re.search(
        rf"^\|.*results/{run.name}\b.*$", (ROOT / "README.md").read_text(), re.M
    )
    assert row, f"README has no row for results/{run.name}"
    figures = [f"{100 * summary[kind]['val_top1']:.2f} %" for kind in ("last", "best")]
    if (run / "seeds.json").exists():  # the run shown is one of several
        seeds = load(run / "seeds.json")
        mean, deviation = (100 * seeds["last"][key] for key in ("mean", "std"))
        figures = [f"{mean:.2f} ± {deviation:.2f} %", f"{seeds['n']} seeds"]
        assert summary["last"]["val_top1"] in [
            s["last"] for s in seeds["seeds"].values()
        ]
    for figure in figures:
        assert figure in row.group()
