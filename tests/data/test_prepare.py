import dataclasses
import socket
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from data_fixtures import place_archive, prepare_cifar, random_images, sorted_by_pixels

from jax_resnet import data
from jax_resnet.data.prepare import ARCHIVES, prepare
from jax_resnet.runtime.errors import UserError


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_tfds_reads_what_was_prepared(name, tmp_path):
    splits = prepare_cifar(name, tmp_path)
    builder = tfds.builder(name, data_dir=str(tmp_path))
    assert builder.is_prepared()
    assert str(builder.version) == "3.0.2"
    for split, (images, labels) in splits.items():
        assert builder.info.splits[split].num_examples == len(images)
        records = list(builder.as_data_source(split))
        assert len({record["id"] for record in records}) == len(images)
        for record in records:
            index = int(record["id"].decode().removeprefix(f"{split}_"))
            np.testing.assert_array_equal(record["image"], images[index])
            assert record["label"] == labels[index]
            if name == "cifar100":
                assert record["coarse_label"] == labels[index] // 5
    names = builder.info.features["label"].names
    assert names[:2] == ["fine 0", "fine 1"]


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_our_reader_reads_what_was_prepared(name, tmp_path):
    splits = prepare_cifar(name, tmp_path)
    dataset = data.load(name, data_dir=str(tmp_path), cache_dir=str(tmp_path / "c"))
    for ours, split in ((dataset.train, "train"), (dataset.evaluation, "test")):
        for found, expected in zip(
            sorted_by_pixels(ours.images, ours.labels),
            sorted_by_pixels(*splits[split]),
            strict=True,
        ):
            np.testing.assert_array_equal(found, expected)


def test_stored_in_the_order_that_tfds_gives_its_own(tmp_path):
    """TFDS stores by a hash of its keys, which count the images of a split."""
    prepare_cifar("cifar10", tmp_path)

    class Stock(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"id": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for index in range(300):
                yield index, {"id": f"train_{index:05d}"}

    stock = Stock(data_dir=str(tmp_path), file_format="array_record")
    stock.download_and_prepare(download_dir=str(tmp_path / "downloads"))
    ours = tfds.builder("cifar10", data_dir=str(tmp_path))
    assert [record["id"] for record in ours.as_data_source("train")] == [
        record["id"] for record in stock.as_data_source("train")
    ]


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_archives_are_those_of_tfds(name):
    archive = ARCHIVES[name]
    (url, info), *others = tfds.builder_cls(name).url_infos.items()
    assert not others
    assert (archive.url, archive.sha256, archive.size, archive.filename) == (
        url,
        info.checksum,
        info.size,
        info.filename,
    )
    assert archive.version == str(tfds.builder_cls(name).VERSION)


def test_a_damaged_archive_is_refused(tmp_path):
    manual = tmp_path / "downloads" / "manual"
    images = {split: random_images(20, 10) for split in ("train", "test")}
    archive = place_archive("cifar10", images, manual)
    path = manual / archive.filename
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"cifar-10-binary.tar.gz is damaged.*delete"):
        prepare(archive, tmp_path)
    assert not (tmp_path / "cifar10").exists()


@pytest.mark.parametrize("listening", [True, False])
def test_no_network_gives_a_remedy_at_once(tmp_path, listening):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        url = f"http://127.0.0.1:{port}/cifar-10-binary.tar.gz"
        if not listening:
            server.close()
        archive = dataclasses.replace(ARCHIVES["cifar10"], url=url)
        with pytest.raises(UserError, match=r"downloads/manual.*data.dir") as caught:
            prepare(archive, tmp_path, connect_seconds=0.5)
    assert "\n" not in str(caught.value)


def test_load_without_a_network_fails_in_time(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, says nothing
        port = server.getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        started = time.monotonic()
        with pytest.raises(UserError, match=r"no answer.*downloads/manual"):
            data.describe("cifar100", data_dir=str(tmp_path))
        assert time.monotonic() - started < 10


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=r"cifar10 cannot be prepared in .*file"):
        prepare(ARCHIVES["cifar10"], tmp_path / "file")


def test_half_a_data_set_is_named(tmp_path):
    prepare_cifar("cifar10", tmp_path)
    folder = tmp_path / "cifar10" / "3.0.2"
    (folder / "features.json").unlink()
    with pytest.raises(UserError, match=f"{folder} is incomplete: delete it"):
        data.load("cifar10", data_dir=str(tmp_path))
