import socket

import numpy as np
import pytest
import tensorflow_datasets as tfds
from data_fixtures import prepare_cifar, refused

from jax_resnet.data.prepare import prepare
from jax_resnet.runtime.errors import UserError


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_tfds_reads_what_was_prepared(name, tmp_path):
    images, labels = prepare_cifar(name, tmp_path, n_train=100)["train"]
    builder = tfds.builder(name, data_dir=str(tmp_path))
    assert str(builder.version) == "3.0.2"
    records = list(builder.as_data_source("train"))
    # TFDS orders by a hash of its keys, which count the images of a split.
    order = [int(record["id"].decode().removeprefix("train_")) for record in records]
    assert order[:4] == [39, 55, 28, 64]
    np.testing.assert_array_equal([r["image"] for r in records], images[order])
    np.testing.assert_array_equal([r["label"] for r in records], labels[order])
    if name == "cifar100":
        coarse = [record["coarse_label"] for record in records]
        np.testing.assert_array_equal(coarse, labels[order] // 5)
    assert builder.info.features["label"].names[:2] == ["label 0", "label 1"]


def test_a_damaged_archive_is_refused(tmp_path):
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    (manual / "cifar-10-binary.tar.gz").write_bytes(b"not the archive")
    with pytest.raises(UserError, match=r"cifar-10-binary.tar.gz is damaged.*delete"):
        prepare("cifar10", tmp_path)
    assert not (tmp_path / "cifar10").exists()


def test_no_network_gives_a_remedy(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    refused(r"downloads/manual.*data.dir", data_dir=str(tmp_path))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"cifar10 cannot be prepared in .*file"):
        prepare("cifar10", tmp_path / "file")


def test_half_a_data_set_is_named(tmp_path):
    folder = tmp_path / "cifar100" / "3.0.2"
    folder.mkdir(parents=True)
    refused(f"{folder} is incomplete: move it", data_dir=str(tmp_path))
