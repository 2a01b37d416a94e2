"""Against PyTorch, whose network of the same names ``benchmarks`` has."""

from pathlib import Path

import numpy as np
import pytest
from format_fixtures import make_predictor, random_images, same_arrays

from jax_resnet.checkpoint.model_folder import StoredModel
from jax_resnet.formats import pytorch
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
torch_resnet = pytest.importorskip("torch_resnet")
pytestmark = pytest.mark.torch
from safetensors.torch import load_file, save_file  # noqa: E402


def torch_logits(network, predictor, images):
    mean, std = predictor.info.mean, predictor.info.std
    x = ((images / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
    with torch.no_grad():
        return network.eval()(torch.from_numpy(x)).numpy()


def random_network(depth=8, num_classes=3):
    torch.manual_seed(0)
    network = torch_resnet.ResNet(depth, num_classes)
    for name, tensor in network.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.5, 1.5)
    return network


def imported(path, like):
    architecture, arrays = pytorch.read(path)
    assert architecture == like.metadata.model
    return Predictor(StoredModel(like.metadata, arrays, step=0))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("depth", [8, 14])
def test_pytorch_computes_the_same_logits(tmp_path, suffix, depth):
    predictor = make_predictor(depth=depth)
    path = tmp_path / f"model{suffix}"
    pytorch.write(predictor, path)
    tensors = load_file(path) if suffix == ".safetensors" else torch.load(path)
    network = torch_resnet.ResNet(depth, 3)
    network.load_state_dict(tensors, strict=True)
    images = random_images(predictor)
    found = torch_logits(network, predictor, images)
    np.testing.assert_allclose(found, predictor.logits(images), atol=1e-4, rtol=0)
    assert network.bn1.num_batches_tracked == predictor.step


@pytest.mark.parametrize("wrap", [dict, lambda t: {"state_dict": t, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_pytorch_saved_computes_the_same_logits(tmp_path, wrap, prefix):
    network = random_network(depth=14)
    tensors = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    torch.save(wrap(tensors), tmp_path / "model.pth")
    predictor = imported(tmp_path / "model.pth", make_predictor(depth=14))
    images = random_images(predictor)
    expected = torch_logits(network, predictor, images)
    np.testing.assert_allclose(predictor.logits(images), expected, atol=1e-4, rtol=0)


def test_there_and_back(tmp_path):
    predictor = make_predictor(width=2, num_classes=7)
    for name in ("model.safetensors", "model.pt"):
        pytorch.write(predictor, tmp_path / name)
        assert same_arrays(predictor, imported(tmp_path / name, predictor))


def test_half_precision_is_read(tmp_path):
    network = random_network().to(torch.bfloat16)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    _, arrays = pytorch.read(tmp_path / "model.pt")
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


def changed(change):
    tensors = dict(random_network().state_dict())
    change(tensors)
    return tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("layer2.0.bn1.weight"), r"no tensor 'layer2\.0\.bn1\.weight'"),
        (lambda t: t.pop("layer3.0.downsample.0.weight"), "projections"),
        (lambda t: t.update({"fc2.bias": torch.ones(3)}), "'fc2.bias' has no place"),
        (lambda t: t.update({"fc.bias": t["fc.bias"].int()}), "int32, not of floats"),
        (lambda t: t.update({"conv1.weight": torch.ones(3)}), "16 filters"),
        (lambda t: t.update({"conv1.weight": torch.ones(0, 3, 3, 3)}), "16 filters"),
        (lambda t: t.clear(), "no tensor"),
    ],
)
def test_other_networks(tmp_path, change, message):
    path = tmp_path / "model.safetensors"
    save_file(changed(change), path)
    with pytest.raises(UserError, match=message):
        pytorch.read(path)


def test_shapes_that_do_not_fit(tmp_path):
    tensors = changed(lambda t: t.update({"bn1.bias": torch.ones(17)}))
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"another model.*stem\.norm\.bias"):
        imported(tmp_path / "model.safetensors", make_predictor())


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_would_run_code_does_not(tmp_path):
    torch.save({"conv1.weight": Hostile(tmp_path / "run")}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="not tensors alone"):
        pytorch.read(tmp_path / "model.pt")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("size", [0, 7, 1000, -1])
def test_files_cut_short(tmp_path, name, size):
    pytorch.write(make_predictor(), tmp_path / name)
    contents = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(contents[:size])
    with pytest.raises(UserError, match="cannot be imported: it is damaged"):
        pytorch.read(tmp_path / name)


def test_no_file_no_state_dict(tmp_path):
    with pytest.raises(UserError, match="no file"):
        pytorch.read(tmp_path / "model.pt")
    torch.save([1, 2], tmp_path / "model.pt")
    with pytest.raises(UserError, match="not a state_dict"):
        pytorch.read(tmp_path / "model.pt")


def test_what_cannot_be_exported(tmp_path):
    with pytest.raises(UserError, match=r"model\.shortcut=projection"):
        pytorch.write(make_predictor(shortcut="pad"), tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"must end in \.safetensors, \.pt"):
        pytorch.write(make_predictor(), tmp_path / "model.bin")
    assert list(tmp_path.iterdir()) == []
