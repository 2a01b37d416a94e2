from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from format_fixtures import make_predictor, random_images
from metadata_fixtures import run_metadata

from jax_resnet.formats import verify
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError

IMAGES = random_images(make_predictor(), 8)


@pytest.mark.slow
def test_a_model_equals_itself():
    predictor = make_predictor()
    difference, ties = verify.compare_outputs(predictor.predict, predictor, IMAGES)
    assert difference < 1e-6
    assert ties == 0
    verify.check_finite(predictor)
    assert verify.compare_arrays(predictor, predictor) > 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda p: p + 1.1e-4, "differs by 0.00011"),
        (lambda p: np.where(p > 0, np.nan, p), "differs by nan"),
        (lambda p: p[:, :2], "shape"),
    ],
)
def test_other_outputs_are_refused(wrong, message):
    predictor = make_predictor()
    with pytest.raises(UserError, match=message):
        verify.compare_outputs(lambda x: wrong(predictor.predict(x)), predictor, IMAGES)


@pytest.mark.parametrize(("gap", "refused"), [(4e-7, False), (2e-6, True)])
def test_another_top1_is_refused_except_for_ties(gap, refused):
    expected = np.array([[0.4 + gap, 0.4, 0.2]])
    model = SimpleNamespace(predict=lambda _: expected)
    compare = verify.compare_outputs.__wrapped__  # takes any model
    arguments = (lambda _: expected[:, [1, 0, 2]], model, IMAGES[:1])
    if refused:
        with pytest.raises(UserError, match="top-1 differs on 1 of 1"):
            compare(*arguments)
    else:
        assert compare(*arguments)[1] == 1


@pytest.mark.parametrize("other", [{"seed": 1}, {"temperature": 2.0}, {"step": 8}])
def test_another_model_is_refused(other):
    with pytest.raises(UserError, match="not the restored one"):
        verify.compare_arrays(make_predictor(**other), make_predictor())


def test_a_diverged_model_is_refused():
    stored = make_predictor().stored
    bias = {"state.params.head.bias": np.full(3, np.nan, np.float32)}
    diverged = replace(stored, arrays={**stored.arrays, **bias})
    with pytest.raises(UserError, match="not finite"):
        verify.check_finite(Predictor(diverged))


@pytest.mark.slow
def test_without_the_data_the_images_are_random():
    images, description = verify.comparison_images(run_metadata(), None)
    assert images.shape == (verify.RANDOM_IMAGES, 4, 4, 1)
    assert "random images, because" in description
