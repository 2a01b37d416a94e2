"""Sharpness-aware minimisation: gradients from where the loss nearby is greatest."""

import jax.numpy as jnp
import optax

from jax_resnet.errors import UserError
from jax_resnet.state import Arrays


def check(rho: float) -> None:
    """Raises a :class:`UserError` for a radius that is none."""
    if not 0 <= rho <= 100:
        raise UserError(f"optimizer.sam_rho must be from 0 to 100, and is {rho}")


def ascend(params: Arrays, gradients: Arrays, *, rho: float, adaptive: bool) -> Arrays:
    """The parameters at distance ``rho`` in the direction in which the loss grows.

    SAM (Foret et al. 2020, https://arxiv.org/abs/2010.01412, equation 2), or ASAM,
    whose distance is measured relative to each parameter (Kwon et al. 2021,
    https://arxiv.org/abs/2102.11600, equation 8; ``T_w`` is ``|w| + 0.01``
    elementwise, and 1 for biases, as in their experiments).

    Args:
        params: by dotted name.
        gradients: of the whole batch, likewise.
        rho: radius, in [0, inf).
        adaptive: ASAM.
    """
    scales = {
        name: jnp.abs(value) + 0.01 if adaptive and not name.endswith(".bias") else 1.0
        for name, value in params.items()
    }
    scaled = {name: gradients[name] * scales[name] for name in params}
    factor = rho / (optax.tree.norm(scaled) + 1e-12)
    return {
        name: value + factor * scaled[name] * scales[name]
        for name, value in params.items()
    }
