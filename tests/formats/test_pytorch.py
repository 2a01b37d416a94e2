"""PyTorch's network of the same names is in ``benchmarks``."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from format_fixtures import make_predictor, random_images, same_arrays
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from jax_resnet.formats import pytorch
from jax_resnet.formats.pytorch_names import to_torch
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the extra 'torch' is not installed")


def torch_logits(torch, network, predictor, images):
    mean, std = predictor.info.mean, predictor.info.std
    x = ((images / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
    with torch.no_grad():
        return network.eval()(torch.from_numpy(x)).numpy()


def arrays_of(predictor):
    return predictor.params | predictor.batch_stats


def imported(path, like):
    architecture, arrays = pytorch.read(path)
    assert architecture == like.metadata.model
    return Predictor(replace(like.stored, arrays=arrays))


@pytest.mark.torch
@pytest.mark.slow
def test_pytorch_computes_the_same_logits(torch, tmp_path):
    from torch_resnet import ResNet

    predictor = make_predictor(depth=14)
    path = tmp_path / "model.safetensors"
    pytorch.write(predictor, path)
    tensors = {k: torch.from_numpy(v) for k, v in load_file(path).items()}
    network = ResNet(14, 3)
    network.load_state_dict(tensors, strict=True)
    images = random_images(predictor)
    found = torch_logits(torch, network, predictor, images)
    np.testing.assert_allclose(found, predictor.logits(images), atol=1e-4, rtol=0)
    assert network.bn1.num_batches_tracked == predictor.step


@pytest.mark.torch
@pytest.mark.slow
def test_a_file_of_pytorch_is_imported(torch, tmp_path):
    from torch_resnet import ResNet

    torch.manual_seed(0)
    network = ResNet(8, 3)
    tensors = {f"_orig_mod.{k}": v for k, v in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9).state_dict()
    saved = {"model": tensors, "optimizer": optimizer, "args": Namespace(lr=0.1)}
    torch.save(saved, tmp_path / "model.pth")
    predictor = imported(tmp_path / "model.pth", make_predictor())
    images = random_images(predictor)
    expected = torch_logits(torch, network, predictor, images)
    np.testing.assert_allclose(predictor.logits(images), expected, atol=1e-4, rtol=0)
    torch.save(network.to(torch.bfloat16).state_dict(), tmp_path / "half.pt")
    _, arrays = pytorch.read(tmp_path / "half.pt")
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def prefixed(prefix, tensors):
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda t: {**t, "epoch": 3}, ""),
        (lambda t: {"net": t, "acc": 93.1, "epoch": 3}, "net"),
        (lambda t: {"model_state_dict": t, "loss": np.ones(())}, "model_state_dict"),
        (lambda t: {"ema_state_dict": t}, "ema_state_dict"),
        (lambda t: {"checkpoint": {"state_dict": t}}, "checkpoint.state_dict"),
        (lambda t: prefixed("_orig_mod.module.", t), "_orig_mod.module"),
        (lambda t: prefixed("module._orig_mod.", t), "module._orig_mod"),
        (lambda t: {"state_dict": prefixed("model.", t)}, "state_dict.model"),
        (lambda t: {**prefixed("module.", t), "n_averaged": np.ones(())}, "module"),
        (lambda t: {n: a for n, a in t.items() if "num_batches" not in n}, ""),
    ],
)
def test_a_network_is_found_wherever_it_lies(monkeypatch, capsys, wrap, place):
    tensors = to_torch(expected_arrays := arrays_of(make_predictor()), step=1)
    monkeypatch.setattr(pytorch, "_read_torch", lambda path: wrap(tensors))
    _, arrays = pytorch.read(Path("theirs.pt"))
    found = {name.split(".", 2)[2]: array for name, array in arrays.items()}
    assert found.keys() == expected_arrays.keys()
    for name, array in expected_arrays.items():
        np.testing.assert_array_equal(found[name], array)
    printed = capsys.readouterr().out
    assert (f"the network is {place!r}" in printed) == bool(place)
    assert ("left out, beside the network: 'n_averaged'" in printed) == (
        place == "module"
    )


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (
            lambda t: {"state_dict": t, "state_dict_ema": t},
            "2 networks, 'state_dict' and 'state_dict_ema': save",
        ),
        (
            lambda t: prefixed("student.", t) | prefixed("teacher.", t),
            "'student' and 'teacher'",
        ),
        (lambda t: {"state_dict": {}}, "no tensor 'layer1.0.conv1.weight'"),
        (lambda t: [t], "not a state_dict"),
        (lambda t: {**t, "norm.mean": np.ones(3)}, "'norm.mean' has no place"),
    ],
)
def test_no_network_and_several_are_refused(monkeypatch, wrap, message):
    tensors = to_torch(arrays_of(make_predictor()), step=1)
    monkeypatch.setattr(pytorch, "_read_torch", lambda path: wrap(tensors))
    with pytest.raises(UserError, match=message):
        pytorch.read(Path("theirs.pt"))


def test_half_precision(tmp_path):
    tensors = to_torch(arrays_of(make_predictor()), step=1)
    half = {n: a.astype("bfloat16") if a.ndim else a for n, a in tensors.items()}
    save_file(half, path := tmp_path / "half.safetensors")
    _, arrays = pytorch.read(path)
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_there_and_back(tmp_path):
    predictor = make_predictor(width=2, num_classes=7)
    path = tmp_path / "model.safetensors"
    pytorch.write(predictor, path)
    assert same_arrays(predictor, imported(path, predictor))
    with safe_open(path, "numpy") as file:
        described = file.metadata()
    assert tuple(json.loads(described["mean"])) == predictor.info.mean
    assert described["input"].startswith("float32 [n, channels, height, width]")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("layer2.0.bn1.weight"), r"no tensor 'layer2\.0\.bn1\.weight'"),
        (lambda t: t.pop("layer3.0.downsample.0.weight"), "projections"),
        (lambda t: t.update({"fc2.bias": np.ones(3)}), "'fc2.bias' has no place"),
        (lambda t: t.update({"fc.bias": np.ones(3, int)}), "int64, not of floats"),
        (lambda t: t.update({"conv1.weight": np.ones(3)}), "16 filters"),
        (lambda t: t.update({"bn1.bias": np.ones(17)}), r"another.*stem\.norm\.bias"),
    ],
)
def test_other_networks(tmp_path, change, message):
    path = tmp_path / "model.safetensors"
    pytorch.write(make_predictor(), path)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(UserError, match=message):
        imported(path, make_predictor())


def test_a_file_cut_short(tmp_path):
    path = tmp_path / "model.safetensors"
    pytorch.write(make_predictor(), path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="cannot be imported: it is damaged"):
        pytorch.read(path)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.torch
def test_hostile_and_other_pickles(torch, tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"conv1.weight": Hostile(tmp_path / "run")}, path)
    with pytest.raises(UserError, match="more than tensors, a getattr"):
        pytorch.read(path)
    assert not (tmp_path / "run").exists()
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(UserError, match=r"torch\.nn\..*Linear: load it where"):
        pytorch.read(path)
    empty = torch.zeros(16, 16, 3, 3, device="meta")
    for tensor in (empty, torch.zeros(16, 16, 3, 3).to_sparse()):
        torch.save({"layer1.0.conv1.weight": tensor}, path)
        with pytest.raises(UserError, match="sparse tensors, or tensors without val"):
            pytorch.read(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="it is damaged"):
        pytorch.read(path)


def test_models_that_cannot_be_exported(tmp_path):
    with pytest.raises(UserError, match=r"model\.shortcut=projection"):
        pytorch.write(make_predictor(shortcut="pad"), tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []
