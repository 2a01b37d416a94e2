import importlib.util
import re

import numpy as np
import pytest
from format_fixtures import make_predictor, same_arrays

from jax_resnet import export
from jax_resnet.checkpoint import model_folder
from jax_resnet.distributed import device
from jax_resnet.formats import convert, pytorch
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError

OUTPUTS = {
    "safetensors": "model",
    "stablehlo": "model.stablehlo",
    "onnx": "model.onnx",
    "pytorch": "model.safetensors",
    "space": "demo",
}
EXTRAS = {"onnx": "onnxruntime", "space": "gradio"}


@pytest.fixture(autouse=True)
def this_process(restored, monkeypatch, tmp_path):
    """Without prepared data sets or a compilation cache."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "no-data"))
    monkeypatch.setattr(device, "cache_compilations", lambda *_: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An exported model in bfloat16, which can be exported again like a run."""
    path = tmp_path_factory.mktemp("exported")
    model_folder.write(path, make_predictor(dtype="bfloat16").stored)
    return path


def run(workdir, name, output, *more):
    if name in EXTRAS and not importlib.util.find_spec(EXTRAS[name]):
        pytest.skip(f"{EXTRAS[name]} is not installed")
    source = ["--workdir", str(workdir), "--format", name]
    return export.main([*source, "--output", str(output), *more])


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUTS)
def test_every_format_is_written_and_compared(folder, tmp_path, capsys, name):
    output = tmp_path / OUTPUTS[name]
    assert run(folder, name, output) == 0
    assert list(tmp_path.iterdir()) == [output]
    printed = capsys.readouterr().out
    assert ("computes in float32" in printed) == (name not in convert.FOLDERS)
    if name in ("stablehlo", "onnx"):
        assert "random images, because cifar100 is not at hand: top-1 id" in printed
    else:
        assert re.search("compared with .* model: all .* arrays identical", printed)
    assert printed.endswith(f"written to {output}\n")


@pytest.mark.slow
def test_a_run_is_compared_on_the_split_that_it_evaluated(finished, tmp_path, capsys):
    run(finished, "onnx", tmp_path / "model.onnx", "--checkpoint=latest")
    printed = capsys.readouterr().out
    assert "on all 100 images of synthetic test[:100]: top-1 identical" in printed


@pytest.mark.slow
def test_the_folder_is_the_run(finished, tmp_path):
    output = tmp_path / "model"
    run(finished, "safetensors", output)
    restored, opened = Predictor.open(finished), Predictor.open(output)
    assert same_arrays(restored, opened)
    assert opened.metadata == restored.metadata
    names = {"README.md", "config.json", "model.safetensors"}
    assert {path.name for path in output.iterdir()} == names


@pytest.mark.slow
@pytest.mark.parametrize("name", ["safetensors", "onnx"])
def test_a_wrong_file_is_not_kept(folder, tmp_path, monkeypatch, name):
    write = convert.FORMATS[name].write
    monkeypatch.setattr(
        convert.FORMATS[name],
        "write",
        lambda _, path: write(make_predictor(seed=1), path),
    )
    with pytest.raises(UserError, match="not the restored"):
        run(folder, name, tmp_path / OUTPUTS[name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--format is missing: one of safetensors, stablehlo, onnx, pytorch"),
        (["--format=safetensors", "--data=cifar100"], "--data is for --from-pytorch"),
        (["--format=safetensors", "--checkpoint=8"], "holds one model, of step 9"),
        (["--format=pytorch"], r"must end in \.safetensors"),
        (["--format=pytorch", "--checkpoint=lst"], "latest or a step, not 'lst'"),
        (["--format=onnx", "--workdir=nowhere"], "no folder 'nowhere'"),
    ],
)
def test_invalid_arguments(folder, tmp_path, options, message):
    output = f"--output={tmp_path / 'model'}"
    with pytest.raises(UserError, match=message):
        export.main(["--workdir", str(folder), output, *options])
    assert list(tmp_path.iterdir()) == []


def run_import(path, output, *more):
    return export.main(["--from-pytorch", str(path), "--output", str(output), *more])


def test_an_import_can_be_exported_again(tmp_path):
    state_dict = tmp_path / "theirs.safetensors"
    pytorch.write(make_predictor(num_classes=10), state_dict)
    assert run_import(state_dict, tmp_path / "model", "--data=synthetic") == 0
    imported = Predictor.open(tmp_path / "model")
    assert same_arrays(make_predictor(num_classes=10), imported)
    assert imported.info.name == "synthetic"
    assert imported.metadata.run.title == "theirs"
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Not measured" in card
    assert run(tmp_path / "model", "pytorch", tmp_path / "ours.safetensors") == 0
    (_, theirs), (_, ours) = map(
        pytorch.read, (state_dict, tmp_path / "ours.safetensors")
    )
    for name, array in theirs.items():
        np.testing.assert_array_equal(array, ours[name])


@pytest.mark.parametrize(
    ("classes", "more", "message"),
    [
        (10, [], "--from-pytorch needs --data"),
        (10, ["--data=synthetic", "--format=onnx"], "writes a folder of --format"),
        (10, ["--data=synthetic", "--from-pytorch=x.pt"], "no file 'x.pt'"),
        (7, ["--data=sinthetic"], "did you mean 'synthetic'"),
        (7, ["--data=synthetic"], "has 7 classes.*synthetic has 10"),
    ],
)
def test_invalid_imports(tmp_path, classes, more, message):
    path = tmp_path / "theirs.safetensors"
    pytorch.write(make_predictor(num_classes=classes), path)
    with pytest.raises(UserError, match=message):
        run_import(path, tmp_path / "model", *more)
    assert list(tmp_path.iterdir()) == [path]
