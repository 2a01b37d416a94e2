"""Each benchmark program runs on a small case, and refuses bad arguments."""

import re

import evaluation
import finetuning
import gpu_program
import numpy as np
import profile_step
import pytest
import step_variants
import train_throughput
from jax_variants import Training
from rounds import Result
from step_changes import BASELINE
from variant import Options

from jax_resnet import data
from jax_resnet.runtime.errors import UserError

SMALL = [
    *("--device", "cpu", "--dtype", "float32", "--depth", "8"),
    *("--batch-size", "4", "--steps", "2"),
]


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (train_throughput, ["--depth", "57"], "--depth must be 6n"),
        (train_throughput, ["--variants", "torch-eagre"], "did you mean 'torch-eager'"),
        (train_throughput, ["--variants", "ours-loop X"], "'X' is not of the form"),
        (train_throughput, ["--output", "missing/a.md"], "no folder for 'missing"),
        (step_variants, ["--variants", "scan xla_a=1"], "'xla_a=1' is no flag"),
    ],
)
def test_bad_arguments(program, arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        program.main(arguments)


def test_the_table_has_median_and_range():
    options = Options("cpu", 8, batch_size=100, dtype="float32", augment="recipe")
    results = {"ours-dispatch": Result(12.34, [1.0, 4.0, 2.0], 3 * 2**20)}
    row = train_throughput.table(results, options, steps=10).splitlines()[2]
    assert row.endswith("| 500 (250 to 1,000) | 200.00 (100.00 to 400.00) | 12.3 | 3 |")


@pytest.mark.ci
@pytest.mark.torch
def test_train_throughput(tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch")
    # Beside other work, PyTorch's threads would wait for each other, for minutes.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    output = tmp_path / "report.md"
    names = ["ours-dispatch", "torch-eager", "torch-graph"]
    options = ["--augment", "none", "--rounds", "1", "--output", str(output)]
    assert train_throughput.main([*SMALL, *options, "--variants", *names]) == 0
    printed = capsys.readouterr()
    assert output.read_text() == printed.out
    rows = [line for line in printed.out.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == names[:2]
    assert "`torch-graph` skipped: CUDA graphs need a GPU" in printed.out


@pytest.mark.ci
def test_step_variants(capsys):
    names = ["unsafe-rbg --xla_gpu_autotune_level=0"]
    options = ["--rounds", "2", "--variants", *names]
    assert step_variants.main([*SMALL, *options]) == 0
    printed = capsys.readouterr()
    turns = re.findall(r"^round (./2, .*):", printed.err, re.MULTILINE)
    assert turns == [f"{i}/2, {name}" for i in (1, 2) for name in (BASELINE, *names)]


@pytest.mark.ci
def test_profile_step(capsys, monkeypatch, restored):
    # What is compiled ahead fills states with things that shape checks refuse.
    monkeypatch.setattr(Training, "warm_up", lambda self: None)
    assert profile_step.main([*SMALL, "--augment", "none", "--rows", "3"]) == 0
    printed = capsys.readouterr().out
    assert "| convolutions | " in printed
    assert re.search(r"^\| \(\d+ more\) \|", printed, re.MULTILINE)


@pytest.mark.ci
def test_evaluation(capsys, restored):
    command = "--depth 8 --images 6 --rounds 2 --batch-sizes 4 6 --device cpu"
    assert evaluation.main(command.split()) == 0
    printed = capsys.readouterr().out
    assert "| jax_resnet, batches of 4 | " in printed
    assert "| jax_resnet, batches of 6 | " in printed


@pytest.mark.ci
def test_gpu_program(capsys, restored):
    pytest.importorskip("jax_plugins", reason="JAX's CUDA build is not installed")
    command = "--config configs/resnet56.py --config.model.depth=8 --program eval"
    assert gpu_program.main(command.split()) == 0
    assert "| convolutions | 9 |" in capsys.readouterr().out


def test_finetuning_learns_classes_that_the_first_model_has_not_seen(
    tmp_path, monkeypatch
):
    names = "abcdefghij"
    labels = np.arange(40, dtype=np.int32) % len(names)
    pixels = labels.astype(np.uint8)[:, None, None, None]
    images = np.broadcast_to(pixels, (40, 8, 8, 3))
    info = data.DatasetInfo("", "", (8, 8, 3), tuple(names), (), (), (), ())
    dataset = data.Dataset(info, *[data.Split(images, labels)] * 2, "test")
    monkeypatch.setattr(finetuning.data, "load", lambda *_, **__: dataset)
    finetuning.write_data(tmp_path, source_images=20, images=6)
    for name, classes, n_train in (("source", "abcdfghi", 20), ("target", "ej", 6)):
        with np.load(tmp_path / f"{name}.npz") as file:
            assert "".join(file["class_names"]) == classes
            assert len(file["train_labels"]) == n_train
            for split in ("train", "test"):
                found = [names.index(classes[i]) for i in file[f"{split}_labels"]]
                assert (file[f"{split}_images"][:, 0, 0, 0] == found).all()
