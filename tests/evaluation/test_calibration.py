import numpy as np
import pytest

from jax_resnet.evaluation.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability_diagram,
    scale_cross_validated,
)


def calibrated(n=5000, classes=5):
    """Logits whose softmax is the distribution that the labels are drawn from."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(n, classes))
    return logits, (logits + rng.gumbel(size=(n, classes))).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.2, 3.0])
def test_the_temperature_is_recovered(temperature):
    logits, labels = calibrated()
    scaled = (temperature * logits).astype(np.float32)
    assert fit_temperature(scaled, labels) == pytest.approx(temperature, rel=0.05)
    np.testing.assert_allclose(scale_cross_validated(scaled, labels), logits, rtol=0.1)


def test_the_temperature_is_the_best_of_a_grid():
    logits, labels = calibrated(n=500)

    def loss(temperature):
        scaled = logits / temperature
        own = scaled[np.arange(len(labels)), labels]
        return np.mean(np.log(np.exp(scaled).sum(axis=1)) - own)

    grid = np.geomspace(0.5, 2, 1001)
    best = grid[np.argmin([loss(t) for t in grid])]
    assert fit_temperature(logits, labels) == pytest.approx(best, rel=2e-3)


def test_no_image_is_scaled_by_a_temperature_fitted_on_it():
    logits, labels = calibrated(n=50)
    changed = labels.copy()
    changed[7] = (changed[7] + 1) % 5
    before, after = (scale_cross_validated(logits, y) for y in (labels, changed))
    np.testing.assert_array_equal(after[7], before[7])
    assert (after != before).any()


def test_reliability_and_calibration_error_by_hand():
    # 15 bins: 0.9 and 0.92 share (13/15, 14/15], 1.0 is in the last one, and 0.2 is
    # the upper edge of the third.
    confidence = np.array([0.9, 0.92, 0.2, 1.0])
    correct = np.array([True, False, False, True])
    diagram = reliability_diagram(confidence, correct)
    expected = {2: (1, 0.2, 0.0), 13: (2, 0.91, 0.5), 14: (1, 1.0, 1.0)}
    assert [tuple(each.values()) for each in diagram] == [
        expected.get(i, (0, None, None)) for i in range(15)
    ]
    error = expected_calibration_error(confidence, correct)
    assert error == pytest.approx((0.2 + 2 * abs(0.91 - 0.5) + 0) / 4)
