"""A folder of images as data, and the files that one may find in it."""

import os
import shutil

import data_fixtures
import numpy as np
import pytest
from data_fixtures import random_images
from PIL import Image

from jax_resnet import data
from jax_resnet.data.splits import holdout_mask
from jax_resnet.runtime.errors import UserError

CLASSES = ("cat", "dog", "a|b $x$ <i>ü日本")


def fill(folder, n, *, classes=CLASSES, seed=0, suffix=".png"):
    """Writes n images of noise to each class; returns them by path."""
    images, labels = random_images(n * len(classes), len(classes), seed=seed)
    written = {}
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / classes[label] / f"{index}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        written[str(path.relative_to(folder))] = image
    return written


@pytest.fixture
def tree(tmp_path):
    """A folder of training and test images."""
    folder = tmp_path / "pets"
    fill(folder / "train", 10)
    fill(folder / "test", 4, seed=1)
    return folder


def load(folder, **settings):
    return data.load("folder", data_dir=str(folder), **settings)


def refused(match, folder, **settings):
    data_fixtures.refused(match, "folder", data_dir=str(folder), **settings)


def test_training_and_test_images(tmp_path):
    folder = tmp_path / "my pets"
    splits = {
        "train": fill(folder / "train", 10),
        "test": fill(folder / "test", 4, seed=1),
    }
    loaded = load(folder)
    assert loaded.info.name == "folder/my-pets"
    assert loaded.info.class_names == tuple(sorted(CLASSES))
    for split, found in (("train", loaded.train), ("test", loaded.evaluation)):
        assert len(found.images) == len(splits[split])
        for image, label, name in zip(
            found.images, found.labels, found.names, strict=True
        ):
            own, _, path = str(name).partition("/")
            assert own == split
            np.testing.assert_array_equal(image, splits[split][path])
            assert loaded.info.class_names[label] == path.split("/")[0]
    # Any part is a random one, not the first classes.
    assert set(load(folder, train_split="train[:50%]").train.labels) == {0, 1, 2}


def test_one_tree_is_split(tmp_path, caplog):
    written = fill(tmp_path / "pets", 10)
    caplog.set_level("INFO", "jax_resnet")
    for _ in range(2):  # decoded, then from the cache
        loaded = load(tmp_path / "pets")
        assert np.bincount(loaded.evaluation.labels).tolist() == [2, 2, 2]
        names = [*loaded.train.names, *loaded.evaluation.names]
        assert sorted(names) == sorted(written)
        everything = np.stack([written[name] for name in names])
        labels = np.concatenate([loaded.train.labels, loaded.evaluation.labels])
        expected = holdout_mask(everything, labels, 6)
        assert [n for n, out in zip(names, expected, strict=True) if out] == (
            loaded.evaluation.names.tolist()
        )
    assert "has no folders train and test: 20 % of its images" in caplog.text


def test_resolution(tmp_path):
    written = fill(tmp_path / "pets", 2, suffix=".bmp")
    for resolution in (64, 16):
        info, split = data.load_split(
            "folder", "train", data_dir=str(tmp_path / "pets"), resolution=resolution
        )
        assert info.image_shape == (resolution, resolution, 3)
        name = str(split.names[0])
        expected = Image.fromarray(written[name]).resize(
            (resolution, resolution), Image.Resampling.LANCZOS
        )
        np.testing.assert_array_equal(split.images[0], expected)
    with pytest.raises(UserError, match=r"stored as 32x32.*leave it at 32"):
        data.load("synthetic", data_dir=None, resolution=64)


def test_the_cache_follows_the_files(tree, caplog, monkeypatch):
    first = load(tree)
    monkeypatch.setattr("jax_resnet.data.folder_source.read_image", None)
    again = load(tree)
    np.testing.assert_array_equal(again.train.images, first.train.images)
    assert again.train.names.tolist() == first.train.names.tolist()
    assert again.info == first.info
    monkeypatch.undo()
    monkeypatch.setenv("JAX_RESNET_CACHE", str(tree.parent / "cache"))
    Image.new("RGB", (5, 5), "red").save(tree / "train" / "cat" / "new.png")
    assert len(load(tree).train.images) == 31
    assert "source has changed" in caplog.text


def test_what_is_not_an_image_is_left_out(tree, caplog):
    before = load(tree)
    (tree / "README.md").touch()
    (tree / "train" / "labels.csv").touch()
    (tree / "train" / "cat" / "notes.txt").touch()
    (tree / "train" / "cat" / ".DS_Store").touch()
    (tree / "train" / ".hidden").mkdir()
    (tree / "documents").mkdir()
    os.mkfifo(tree / "test" / "cat" / "pipe.png")
    loaded = load(tree)
    assert caplog.text.count("\n") == 1
    assert "3 files are left out" in caplog.text
    assert "first 'test/cat/pipe.png'" in caplog.text
    assert loaded.info == before.info


def test_unreadable_files_are_named(tree):
    good = next((tree / "train" / "cat").iterdir()).read_bytes()
    (tree / "train" / "cat" / "cut.png").write_bytes(good[: len(good) // 2])
    refused(r"cut.png' cannot be read as an image.* 1 of 31 files", tree)
    for name, content in {
        "empty.jpg": b"",
        "text.gif": b"x",
        "no suffix": b"x",
    }.items():
        (tree / "train" / "dog" / name).write_bytes(content)
    (tree / "train" / "cat" / "gone.png").symlink_to("nowhere")
    refused("cannot read .*gone.png", tree)
    (tree / "train" / "cat" / "gone.png").unlink()
    for name in "1234":
        (tree / "train" / "dog" / name).touch()
    refused(r"; and 3 more: repair 8 of 38 files or move them out", tree)


def move(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: (tree / "train" / "bird").mkdir(), "too few .* of class 'bird'"),
        (
            lambda tree: move(tree / "train" / "cat", tree / "train" / "Cat"),
            "too few training images of class 'cat'",
        ),
        (lambda tree: empty(tree / "train" / "cat"), "too few .* of class 'cat'"),
        (lambda tree: empty(tree), r"fewer than two classes: \[\]"),
        (shutil.rmtree, "cannot read .*pets.*data.dir, a folder of images"),
        (lambda tree: [shutil.rmtree(tree), tree.touch()], "cannot read .*pets"),
        (lambda tree: (tree / "train" / "a\nb").mkdir(), r"'a\\nb' .*not printable"),
        (
            lambda tree: os.mkdir(os.fsencode(tree) + b"/test/\xff"),  # noqa: PTH102
            r"'\\udcff' .*not printable",
        ),
        (lambda tree: shutil.rmtree(tree / "test"), "no split 'test', only train"),
        (
            lambda tree: [
                shutil.rmtree(tree),
                fill(tree, 1),
            ],
            r"too few .* of 3 classes, first .*: each class needs at least 2",
        ),
    ],
)
def test_trees_that_are_refused(tree, change, message):
    change(tree)
    refused(message, tree)


def test_no_folder_is_named():
    data_fixtures.refused("data.name=folder needs data.dir", "folder")


def test_classes_that_cannot_be_tested_are_named(tree, caplog):
    empty(tree / "test" / "cat")
    assert load(tree).info.class_names == tuple(sorted(CLASSES))
    assert f"{tree} has no image in 'test' of class 'cat'\n" in caplog.text


@pytest.mark.parametrize("settings", [{}, {"eval_split": "train[:4]"}, {"holdout": 6}])
def test_images_in_two_splits_are_counted(tree, settings, caplog):
    for k, name in enumerate(sorted((tree / "train" / "cat").iterdir())[:3]):
        shutil.copy(name, tree / "test" / "dog" / f"copy {k}.png")
        shutil.copy(name, tree / "train" / "dog" / f"copy {k}.png")
    load(tree, **settings)
    if not settings:
        assert "3 of the 15 images of test are training images, too" in caplog.text
        assert "first 'test/dog/copy" in caplog.text
    assert caplog.text.count("\n") <= 1
