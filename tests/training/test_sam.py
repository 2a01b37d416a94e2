"""SAM and ASAM against their papers' formulas."""

import jax
import numpy as np
import pytest

from jax_resnet.training.sam import Sam

SHAPES = {"a.conv.kernel": (3, 3, 2, 4), "a.norm.scale": (4,), "a.norm.bias": (4,)}
RNG = np.random.default_rng(0)
PARAMS, GRADIENTS = (
    {name: RNG.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}
    for _ in range(2)
)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_ascent_against_its_formula(adaptive):
    found = jax.jit(Sam(0.05, adaptive).ascend)(PARAMS, GRADIENTS)
    t = {
        n: np.abs(value) + 0.01 if adaptive and not n.endswith("bias") else 1.0
        for n, value in PARAMS.items()
    }
    norm = np.sqrt(sum(np.sum((t[n] * g) ** 2) for n, g in GRADIENTS.items()))
    for name, value in PARAMS.items():
        expected = value + 0.05 * t[name] ** 2 * GRADIENTS[name] / norm
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


def test_no_gradient_moves_nothing():
    zeros = jax.tree.map(np.zeros_like, GRADIENTS)
    found = jax.jit(Sam(1.0).ascend)(PARAMS, zeros)
    jax.tree.map(np.testing.assert_array_equal, found, PARAMS)
