import data_fixtures
import numpy as np
import pytest
from data_fixtures import random_images, same_records

from jax_resnet import data


def arrays(shape=(8, 8, 3), **others):
    images, labels = random_images(60, 3, shape=shape)
    content = {"train_images": images, "train_labels": labels.astype(np.uint8)}
    return {**content, **others}


def load(tmp_path, content, **settings):
    np.savez(tmp_path / "my set.npz", **content)
    return data.load("arrays", data_dir=str(tmp_path / "my set.npz"), **settings)


def test_training_and_test_arrays(tmp_path):
    images, labels = random_images(30, 3, seed=1, shape=(8, 8, 3))
    names = np.array(["ü", "a|b", "$x$"])
    content = arrays(test_images=images, test_labels=labels, class_names=names)
    loaded = load(tmp_path, content)
    for found, split in ((loaded.train, "train"), (loaded.evaluation, "test")):
        np.testing.assert_array_equal(found.images, content[f"{split}_images"])
        np.testing.assert_array_equal(found.labels, content[f"{split}_labels"])
    info = loaded.info
    assert (info.name, info.image_shape) == ("arrays/my-set", (8, 8, 3))
    assert info.class_names == ("ü", "a|b", "$x$")
    scaled = content["train_images"] / 255
    np.testing.assert_allclose(info.mean, scaled.mean((0, 1, 2)), rtol=1e-12)
    held_out = load(tmp_path, content, train_split="train[:50%]", holdout=6)
    assert (len(held_out.train.images), len(held_out.evaluation.images)) == (24, 6)


def test_grey_arrays_that_are_split(tmp_path):
    content = arrays(shape=(8, 12))
    loaded = load(tmp_path, content)
    assert loaded.info.image_shape == (8, 12, 1)
    assert loaded.info.class_names == ("0", "1", "2")
    assert np.bincount(loaded.evaluation.labels).tolist() == [4, 4, 4]
    both = [
        np.concatenate([getattr(s, field) for s in (loaded.train, loaded.evaluation)])
        for field in ("images", "labels")
    ]
    same_records(data.Split(*both), tuple(content.values()))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_images": np.zeros((60, 8, 8, 3))}, "are float64 .*must be uint8"),
        ({"train_images": np.zeros((60, 8, 8, 2), np.uint8)}, "3 or 4 channels"),
        ({"train_images": np.zeros((60, 3, 8, 8), np.uint8)}, "height, width, chan"),
        ({"train_images": np.zeros((60, 3, 8, 3), np.uint8)}, "at least 4x4"),
        ({"train_labels": np.zeros((60, 1), int)}, r"int64 \[60, 1\].*integers \[60\]"),
        ({"train_labels": np.full(60, -1)}, "from -1 to -1: .* counted from 0"),
        ({"train_labels": np.arange(60) % 3 + 1}, "from 1 to 3: .* counted from 0"),
        ({"train_labels": np.eye(60)}, r"float64 \[60, 60\].*integers \[60\]"),
        ({"train_labels": np.full(60, "cat")}, r"<U3 \[60\].*integers \[60\]"),
        ({"train_labels": np.arange(60) * 9}, "has the label 531 and fewer"),
        ({"train_labels": np.zeros(60, int)}, "fewer than two classes"),
        (
            {"train_labels": np.repeat([0, 2], 30)},
            "too few .* of class '1'.*at least 2",
        ),
        ({"class_names": np.array(["a", "b"])}, "at least 3, as the labels go up to 2"),
        ({"class_names": np.array(["a", None, "c"])}, "cannot be read as one"),
        ({"class_names": np.array(["a", "\ud800", "c"])}, "must be strings"),
        ({"class_names": np.array(["a", "b", "a"])}, "more than one class called 'a'"),
        ({"class_names": np.array(["a", "", "c"])}, "a class without a name"),
        ({"test_images": np.zeros((5, 8, 8, 3), np.uint8)}, "has no 'test_labels'"),
        (
            {
                "test_images": np.zeros((5, 9, 8, 3), np.uint8),
                "test_labels": np.arange(5) % 3,
            },
            "of different shapes",
        ),
    ],
)
def test_arrays_that_are_refused(tmp_path, changed, message):
    path = tmp_path / "x.npz"
    np.savez(path, **arrays(**changed))
    data_fixtures.refused(message, "arrays", data_dir=str(path))


def test_files_that_are_no_arrays(tmp_path):
    path = tmp_path / "x.npz"
    data_fixtures.refused("needs data.dir, the .npz file", "arrays")
    data_fixtures.refused("no file .*x.npz", "arrays", data_dir=str(path))
    np.savez(path, **arrays())
    content = path.read_bytes()
    for damaged in (b"", b"x", content[:-100], content[:5000] + b"xx" + content[5002:]):
        path.write_bytes(damaged)
        data_fixtures.refused("cannot be read as one", "arrays", data_dir=str(path))
    np.save(path.with_suffix(".npy"), arrays()["train_images"])
    npy = str(path.with_suffix(".npy"))
    data_fixtures.refused("cannot be read as one", "arrays", data_dir=npy)
