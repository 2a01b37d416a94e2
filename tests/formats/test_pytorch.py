"""PyTorch's network of the same names is in ``benchmarks``."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from format_fixtures import make_predictor, random_images, same_arrays
from safetensors.numpy import load_file, save_file

from jax_resnet.formats import pytorch
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
    tensors = {f"module.{k}": v for k, v in network.state_dict().items()}
    torch.save({"state_dict": tensors, "epoch": 3}, tmp_path / "model.pth")
    predictor = imported(tmp_path / "model.pth", make_predictor())
    images = random_images(predictor)
    expected = torch_logits(torch, network, predictor, images)
    np.testing.assert_allclose(predictor.logits(images), expected, atol=1e-4, rtol=0)
    torch.save(network.to(torch.bfloat16).state_dict(), tmp_path / "half.pt")
    _, arrays = pytorch.read(tmp_path / "half.pt")
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def test_there_and_back(tmp_path):
    predictor = make_predictor(width=2, num_classes=7)
    path = tmp_path / "model.safetensors"
    pytorch.write(predictor, path)
    assert same_arrays(predictor, imported(path, predictor))


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
    with pytest.raises(UserError, match="more than tensors"):
        pytorch.read(path)
    assert not (tmp_path / "run").exists()
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="not a state_dict"):
        pytorch.read(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="it is damaged"):
        pytorch.read(path)


def test_models_and_names_that_cannot_be_exported(tmp_path):
    with pytest.raises(UserError, match=r"model\.shortcut=projection"):
        pytorch.write(make_predictor(shortcut="pad"), tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"must end in \.safetensors"):
        pytorch.write(make_predictor(), tmp_path / "model.bin")
    with pytest.raises(UserError, match="no file"):
        pytorch.read(tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []
