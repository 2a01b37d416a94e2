from dataclasses import replace

import numpy as np
import pytest
from format_fixtures import make_predictor, random_images
from metadata_fixtures import run_metadata

from jax_resnet.formats import comparison
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError


@pytest.fixture(scope="module")
def predictor():
    return make_predictor()


@pytest.fixture(scope="module")
def images(predictor):
    return random_images(predictor, comparison.BATCH + 3)


def test_the_model_agrees_with_itself(predictor, images):
    sizes = []

    def exported(batch):
        sizes.append(len(batch))
        return predictor.predict(batch)

    found = comparison.compare(exported, predictor, images)
    assert (found.images, found.ties) == (len(images), 0)
    assert found.max_difference < 1e-6
    assert sizes == [1, comparison.BATCH, 2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda p: p + 1.1e-4, "differs by 0.00011"),
        (lambda p: p[:, ::-1], "differs by"),
        (lambda p: np.where(p > 0, np.nan, p), "differs by nan"),
        (lambda p: p[:, :2], "shape"),
    ],
)
def test_a_wrong_model_is_refused(predictor, images, wrong, message):
    with pytest.raises(UserError, match=message):
        comparison.compare(lambda x: wrong(predictor.predict(x)), predictor, images)


class Fixed:
    """A predictor of given probabilities."""

    def __init__(self, rows):
        self._rows = np.array(rows)

    def predict(self, images):
        return self._rows


@pytest.mark.parametrize(("gap", "refused"), [(4e-7, False), (2e-6, True)])
def test_another_top1_is_refused_but_for_ties(gap, refused):
    expected, found = [[0.3 + gap, 0.3, 0.4 - gap]], [[0.3, 0.3 + gap, 0.4 - gap]]
    expected[0][2] = found[0][2] = 0.2
    images = np.zeros((1, 2, 2, 1), np.uint8)

    def compare():
        model = Fixed(expected)
        return comparison.compare.__wrapped__(lambda _: np.array(found), model, images)

    if refused:
        with pytest.raises(UserError, match="top-1 differs on 1 of 1"):
            compare()
    else:
        assert compare().ties == 1


def test_a_model_that_has_diverged_is_refused(predictor, images):
    arrays = dict(predictor.stored.arrays)
    arrays["state.params.head.bias"] = np.full(3, np.nan, np.float32)
    diverged = Predictor(replace(predictor.stored, arrays=arrays))
    with pytest.raises(UserError, match="not finite"):
        comparison.compare(diverged.predict, diverged, images)


def test_without_the_data_the_images_are_random_and_it_is_said():
    sample = comparison.sample(run_metadata(), None)
    assert sample.images.shape == (comparison.RANDOM_IMAGES, 4, 4, 1)
    assert "random images, because unknown data set 'resnet" not in sample.description
    assert "random images, because" in sample.description


def test_with_the_data_it_is_the_evaluated_split(finished):
    metadata = Predictor.open(finished).metadata
    sample = comparison.sample(metadata, None)
    assert sample.description == "all 100 images of synthetic test[:100]"
    assert len(sample.images) == 100
