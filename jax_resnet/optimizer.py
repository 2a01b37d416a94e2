"""Learning-rate schedules, weight decay and the SGD chain, from optax."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jax_resnet.errors import UserError


def cosine_schedule(
    learning_rate: float, total_steps: int, warmup_steps: int = 0
) -> optax.Schedule:
    """Linear warmup from 0, then cosine decay to 0 at ``total_steps``.

    Loshchilov, Hutter: "SGDR", https://arxiv.org/abs/1608.03983, equation 5,
    without restarts.

    Args:
        learning_rate: the peak.
        total_steps: steps of the whole run, warmup included.
        warmup_steps: steps of the warmup; 0 starts at the peak.

    Raises:
        UserError: for a value out of range.
    """
    if not learning_rate >= 0:
        raise UserError(
            f"optimizer.learning_rate must not be negative, and is {learning_rate}"
        )
    if not 0 <= warmup_steps < total_steps:
        raise UserError(
            f"optimizer.warmup_epochs must be shorter than the run: {warmup_steps} "
            f"warmup steps of {total_steps}"
        )
    schedule = (
        optax.warmup_cosine_decay_schedule(
            0.0, learning_rate, warmup_steps, total_steps
        )
        if warmup_steps
        else optax.cosine_decay_schedule(learning_rate, total_steps)
    )
    # Optax divides the integer count as it is, which strict type promotion refuses.
    return lambda step: schedule(jnp.asarray(step, jnp.float32))


def scaled_learning_rate(
    learning_rate: float, *, batch_size: int, base_batch_size: int, scaling: str
) -> float:
    """The peak learning rate for a batch of another size than it was chosen for.

    Args:
        learning_rate: for batches of ``base_batch_size``.
        batch_size: of the run.
        base_batch_size: of the recipe.
        scaling: ``"none"``; ``"linear"``, which keeps the mean of an epoch's updates
            (Goyal et al. 2017, https://arxiv.org/abs/1706.02677, section 2.1; with
            warmup); ``"sqrt"``, which keeps their variance (Krizhevsky 2014,
            https://arxiv.org/abs/1404.5997, section 5).

    Raises:
        UserError: for another scaling.
    """
    ratio = batch_size / base_batch_size
    factors = {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}
    if scaling not in factors:
        raise UserError(
            "optimizer.learning_rate_scaling must be 'none', 'linear' or 'sqrt', "
            f"not {scaling!r}"
        )
    return learning_rate * factors[scaling]


def sgd(
    schedule: optax.Schedule,
    *,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 5e-4,
    weight_decay_on: str = "all",
) -> optax.GradientTransformation:
    """SGD with momentum and coupled weight decay, as PyTorch's ``optim.SGD``.

    The decay is added to the gradient before the momentum, so that the learning
    rate scales both.

    Args:
        schedule: learning rate by step.
        momentum: in [0, 1).
        nesterov: look one step ahead.
        weight_decay: coefficient of the L2 penalty's gradient.
        weight_decay_on: ``"all"`` parameters, or ``"kernels"`` alone, which
            spares biases and BatchNorm.

    Raises:
        UserError: for a value out of range.
    """
    if not 0 <= momentum < 1:
        raise UserError(f"optimizer.momentum must be in [0, 1), and is {momentum}")
    if not weight_decay >= 0:
        raise UserError(
            f"optimizer.weight_decay must not be negative, and is {weight_decay}"
        )
    masks: dict[str, Callable | None] = {"all": None, "kernels": is_kernel}
    if weight_decay_on not in masks:
        raise UserError(
            "optimizer.weight_decay_on must be 'all' or 'kernels', "
            f"not {weight_decay_on!r}"
        )
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=masks[weight_decay_on]),
        optax.sgd(schedule, momentum=momentum or None, nesterov=nesterov),
    )


def is_kernel(params: dict[str, jax.Array]) -> dict[str, bool]:
    """Which parameters are weights of convolutions and of the head."""
    return {name: name.endswith(".kernel") for name in params}
