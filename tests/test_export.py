import importlib.util
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from command_line import ROOT, assert_one_line
from format_fixtures import make_predictor, random_images, same_arrays

from jax_resnet import export
from jax_resnet.checkpoint import model_folder
from jax_resnet.distributed import device
from jax_resnet.formats import pytorch
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError

OUTPUTS = {
    "safetensors": "model",
    "stablehlo": "model.stablehlo",
    "onnx": "model.onnx",
    "pytorch": "model.safetensors",
    "space": "demo",
}


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """No data set of this computer, and no cache of compiled programs."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no-data"))
    monkeypatch.setattr(device, "cache_compilations", lambda *_: None)
    default = jax.config.jax_default_device
    yield
    jax.config.update("jax_default_device", default)


@pytest.fixture(scope="module")
def predictor():
    return make_predictor()


@pytest.fixture(scope="module")
def folder(predictor, tmp_path_factory):
    """Exported before, which can be exported like a run."""
    path = tmp_path_factory.mktemp("exported")
    model_folder.write(path, predictor.stored)
    return path


def arguments(folder, name, output, *more):
    if name == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra 'export' is missing")
    if name == "space":
        pytest.importorskip("gradio", reason="the extra 'serve' is missing")
    source = ["--workdir", str(folder), "--format", name]
    return [*source, "--output", str(output), *more]


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_format_is_written_and_compared(folder, tmp_path, capsys, name):
    output = tmp_path / OUTPUTS[name]
    assert export.main(arguments(folder, name, output)) == 0
    assert list(tmp_path.iterdir()) == [output]
    said = capsys.readouterr().out
    assert "compared with the restored model on 256 random images" in said
    assert ("because cifar100 is not at hand" in said) == (
        name in ("stablehlo", "onnx")
    )
    assert "top-1 identical, probabilities to" in said
    assert said.endswith(f"written to {output}\n")


@pytest.mark.parametrize("name", ["stablehlo", "onnx"])
def test_a_run_is_compared_on_the_split_that_it_evaluated(
    finished, tmp_path, capsys, name
):
    output = tmp_path / OUTPUTS[name]
    assert export.main(arguments(finished, name, output, "--checkpoint=latest")) == 0
    said = capsys.readouterr().out
    assert "on all 100 images of synthetic test[:100]: top-1 identical" in said


def test_the_folder_is_the_run(finished, tmp_path):
    output = tmp_path / "model"
    assert export.main(arguments(finished, "safetensors", output)) == 0
    restored, opened = Predictor.open(finished), Predictor.open(output)
    assert same_arrays(restored, opened)
    assert opened.metadata == restored.metadata
    names = {"README.md", "config.json", "model.safetensors"}
    assert {path.name for path in output.iterdir()} == names


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_wrong_file_is_not_kept(folder, tmp_path, monkeypatch, name):
    written = export.FORMATS[name].write

    def write_another(predictor, path):
        written(make_predictor(seed=1), path)

    monkeypatch.setattr(export.FORMATS[name], "write", write_another)
    with pytest.raises(UserError, match="not the restored"):
        export.main(arguments(folder, name, tmp_path / OUTPUTS[name]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_full_disk_leaves_nothing(folder, tmp_path, name):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted")
    try:
        with pytest.raises(OSError, match="No space left on device"):
            export.main(arguments(folder, name, disk / OUTPUTS[name]))
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format=onxx"], "invalid choice: 'onxx'"),
        ([], "--format is missing: one of safetensors, stablehlo, onnx, pytorch"),
        (["--format=onnx", "--push=a/b"], "--push uploads what"),
        (["--format=safetensors", "--push=a"], "--push must be user/name"),
        (["--format=safetensors", "--data=cifar100"], "--data is for --from-pytorch"),
        (["--format=safetensors", "--checkpoint=8"], "holds one model, of step 9"),
        (["--format=pytorch", "--from-pytorch=x"], "not allowed with"),
        (["--format=pytorch"], r"must end in \.safetensors"),
    ],
)
def test_arguments_that_make_no_sense(folder, tmp_path, options, message):
    output = tmp_path / "model"
    with pytest.raises(UserError, match=message):
        export.main(["--workdir", str(folder), "--output", str(output), *options])
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_export(tmp_path):
    with pytest.raises(UserError, match="no checkpoint in"):
        export.main(arguments(tmp_path / "none", "stablehlo", tmp_path / "model"))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_packages_that_are_missing_are_named(folder, tmp_path, monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(UserError, match=rf"needs {package}, .*\[export\]"):
        export.main(
            ["--workdir", str(folder), "--format=onnx", f"--output={tmp_path}/m.onnx"]
        )


def synthetic_file(path, **changes):
    """The state_dict of a model for the synthetic data set, whose data is at hand."""
    predictor = make_predictor(num_classes=10, **changes)
    pytorch.write(predictor, path)
    return predictor


def import_it(path, output, *more):
    return export.main(["--from-pytorch", str(path), "--output", str(output), *more])


def test_import(tmp_path):
    path = tmp_path / "theirs.safetensors"
    exported = synthetic_file(path)
    assert import_it(path, tmp_path / "model", "--data=synthetic") == 0
    imported = Predictor.open(tmp_path / "model")
    assert same_arrays(exported, imported)
    assert imported.info.name == "synthetic"
    assert imported.metadata.run.title == "theirs"
    images = random_images(imported)
    assert imported.predict(images).shape == (7, 10)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Not measured" in card
    assert "model-index" not in card


def test_what_was_imported_can_be_exported(tmp_path):
    path = tmp_path / "theirs.safetensors"
    synthetic_file(path)
    assert import_it(path, tmp_path / "model", "--data=synthetic") == 0
    back = tmp_path / "ours.safetensors"
    assert export.main(arguments(tmp_path / "model", "pytorch", back)) == 0
    (_, first), (_, second) = pytorch.read(path), pytorch.read(back)
    assert set(first) == set(second)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        ({}, [], "--from-pytorch needs --data"),
        ({}, ["--data=synthetic", "--format=onnx"], "gives a folder of --format"),
        ({}, ["--data=cifra100"], "unknown data set.*did you mean 'cifar100'"),
        ({"channels": 1}, ["--data=synthetic"], "10 classes and 1 channels"),
    ],
)
def test_imports_that_make_no_sense(tmp_path, changes, more, message):
    path = tmp_path / "theirs.safetensors"
    synthetic_file(path, **changes)
    with pytest.raises(UserError, match=message):
        import_it(path, tmp_path / "model", *more)
    assert list(tmp_path.iterdir()) == [path]


def test_class_counts_that_differ(tmp_path):
    path = tmp_path / "theirs.safetensors"
    pytorch.write(make_predictor(num_classes=7), path)
    with pytest.raises(UserError, match=r"has 7 classes.*synthetic has 10"):
        import_it(path, tmp_path / "model", "--data=synthetic")


def test_a_damaged_run_is_one_line(finished, tmp_path):
    (tmp_path / "run" / "checkpoints" / "3").mkdir(parents=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = arguments(tmp_path / "run", "stablehlo", tmp_path / "model")
    result = subprocess.run(
        [sys.executable, "-m", "jax_resnet.export", *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = result.stderr.splitlines()
    assert lines[-1].startswith("error: every checkpoint in"), result.stderr
    assert result.returncode == 2
    assert not (tmp_path / "model").exists()
    existing = subprocess.run(
        [sys.executable, "-m", "jax_resnet.export", *options[:-1], str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert_one_line(existing, "exists: remove it, or choose another --output")
