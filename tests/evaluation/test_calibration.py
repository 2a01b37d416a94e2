import numpy as np
import pytest

from jax_resnet.evaluation.calibration import (
    cross_fitted,
    fit_temperature,
    reliability,
    risk_by_coverage,
)
from jax_resnet.evaluation.metrics import expected_calibration_error


def calibrated(n=20_000, classes=5, seed=0):
    """Logits whose softmax is the distribution that the labels are drawn from."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, classes))
    gumbel = rng.gumbel(size=(n, classes))
    return logits, (logits + gumbel).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_a_temperature_is_found_again(temperature):
    logits, labels = calibrated()
    assert fit_temperature(temperature * logits, labels) == pytest.approx(
        temperature, rel=0.03
    )


def test_the_temperature_is_the_best_of_a_grid():
    logits, labels = calibrated(n=500, seed=1)
    logits = 1.7 * logits

    def loss(temperature):
        scaled = logits / temperature
        own = scaled[np.arange(len(labels)), labels]
        return np.mean(np.log(np.exp(scaled).sum(axis=1)) - own)

    grid = np.geomspace(0.2, 20, 4001)
    best = grid[np.argmin([loss(t) for t in grid])]
    assert fit_temperature(logits, labels) == pytest.approx(best, rel=2e-3)


def test_float32_logits_are_as_good():
    logits, labels = calibrated(n=500)
    assert fit_temperature(logits.astype(np.float32), labels) == pytest.approx(
        fit_temperature(logits, labels), rel=1e-4
    )


def test_a_model_that_is_always_right_is_sharpened():
    logits = np.eye(4)[np.arange(40) % 4]
    assert fit_temperature(logits, np.arange(40) % 4) < 0.1


def test_no_image_is_scaled_by_a_temperature_that_saw_it():
    logits, labels = calibrated(n=50)
    scaled = cross_fitted(logits, labels)
    changed = labels.copy()
    changed[7] = (changed[7] + 1) % 5
    again = cross_fitted(logits, changed)
    np.testing.assert_array_equal(again[7], scaled[7])
    assert (again != scaled).any()


def test_cross_fitting_calibrates():
    logits, labels = calibrated()
    scaled = cross_fitted(3 * logits, labels)
    np.testing.assert_allclose(scaled, logits, rtol=0.05)


def test_reliability_by_hand():
    confidence = np.array([0.05, 0.95, 0.98, 1.0])
    right = np.array([False, True, False, True])
    found = reliability(confidence, right)
    assert found.counts.tolist() == [1, *[0] * 13, 3]
    assert found.confidence[[0, 14]] == pytest.approx([0.05, 2.93 / 3])
    assert found.accuracy[[0, 14]] == pytest.approx([0, 2 / 3])
    assert np.isnan(found.accuracy[1:14]).all()
    assert found.ece == expected_calibration_error(confidence, right)
    gaps = np.abs(found.accuracy - found.confidence)
    assert found.ece == pytest.approx(np.nansum(gaps * found.counts) / 4)


def test_risk_by_hand():
    coverage, risk = risk_by_coverage(
        np.array([0.2, 0.9, 0.5, 0.9]), np.array([False, True, True, False])
    )
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
