"""Sharpness-aware minimisation: gradients from where the loss nearby is greatest."""

from dataclasses import dataclass

import jax.numpy as jnp
import optax

from jax_resnet.model.weights import Arrays


@dataclass(frozen=True)
class Sam:
    """SAM (Foret et al. 2020, https://arxiv.org/abs/2010.01412), or ASAM.

    ASAM (Kwon et al. 2021, https://arxiv.org/abs/2102.11600, equation 8) measures the
    distance relative to each parameter: ``T_w`` is ``|w| + 0.01`` elementwise, and 1
    for biases, as in their experiments.
    """

    rho: float  # radius of the neighbourhood; 0 turns SAM off
    adaptive: bool = False  # use ASAM

    def ascend(self, params: Arrays, gradients: Arrays) -> Arrays:
        """Moves the parameters by ``rho`` along the gradient (SAM, equation 2)."""
        scales = {
            name: jnp.abs(value) + 0.01
            if self.adaptive and not name.endswith(".bias")
            else 1.0
            for name, value in params.items()
        }
        scaled = {name: gradients[name] * scales[name] for name in params}
        factor = self.rho / (optax.tree.norm(scaled) + 1e-12)
        return {
            name: value + factor * scaled[name] * scales[name]
            for name, value in params.items()
        }
