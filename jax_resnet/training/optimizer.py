"""Learning-rate schedules and optimizers, from optax."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax


def make_schedule(
    name: str, learning_rate: float, total_steps: int, warmup_steps: int = 0
) -> optax.Schedule:
    """Linear warmup from 0 to the peak, then a decay over the steps that are left.

    Args:
        name: of the decay. ``"cosine"``: to 0 (Loshchilov, Hutter 2016, "SGDR",
            https://arxiv.org/abs/1608.03983, equation 5, without restarts).
            ``"linear"``: to 0. ``"step"``: to a fifth at 0.3, 0.6 and 0.8 of them
            (Zagoruyko, Komodakis 2016, https://arxiv.org/abs/1605.07146, section 3).
            ``"constant"``: none.
        learning_rate: the peak.
        total_steps: steps of the whole run, warmup included.
        warmup_steps: steps of the warmup; 0 starts at the peak.
    """
    steps = total_steps - warmup_steps
    boundaries = {round(part * steps): 0.2 for part in (0.3, 0.6, 0.8)}
    decays: dict[str, Callable[[], optax.Schedule]] = {
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, steps),
        "linear": lambda: optax.linear_schedule(learning_rate, 0.0, steps),
        "step": lambda: optax.piecewise_constant_schedule(learning_rate, boundaries),
        # Optax's has one rate whatever the number of steps that it is asked for.
        "constant": lambda: lambda step: jnp.full_like(step, learning_rate),
    }
    schedule = decays[name]()
    if warmup_steps:
        warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
        schedule = optax.join_schedules([warmup, schedule], [warmup_steps])
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
    """
    ratio = batch_size / base_batch_size
    factors = {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}
    return learning_rate * factors[scaling]


def make_optimizer(
    name: str,
    schedule: optax.Schedule,
    *,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 5e-4,
    weight_decay_on: str = "all",
    adam_ratio: float = 1.0,
) -> optax.GradientTransformation:
    """An optimizer of optax by its name.

    Args:
        name: ``"sgd"``: as PyTorch's ``optim.SGD``, with weight decay coupled: it is
            added to the gradient before the momentum. ``"adamw"``: with weight decay
            decoupled (Loshchilov, Hutter 2017, https://arxiv.org/abs/1711.05101).
            ``"muon"``: the kernels of convolutions, each as a matrix of its output
            channels, move by their orthogonalised momentum, and all other parameters
            by AdamW (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).
            In each of them the learning rate scales the decay.
        schedule: learning rate by step.
        momentum: in [0, 1); of ``"adamw"`` the decay of the first moment.
        nesterov: look one step ahead.
        weight_decay: coefficient of the L2 penalty's gradient.
        weight_decay_on: ``"all"`` parameters, or ``"kernels"`` alone.
        adam_ratio: of ``"muon"``, the learning rate of AdamW in units of the other.
    """
    mask = _is_kernel if weight_decay_on == "kernels" else None
    rate = _in_an_array(schedule)
    if name == "sgd":
        return optax.chain(
            optax.add_decayed_weights(weight_decay, mask=mask),
            optax.sgd(rate, momentum=momentum or None, nesterov=nesterov),
        )
    decay = {"nesterov": nesterov, "weight_decay": weight_decay}
    adamw = partial(optax.adamw, b1=momentum, mask=mask, **decay)
    if name == "adamw":
        return adamw(rate)
    if name == "muon":
        muon = optax.contrib.muon(
            rate, beta=momentum, muon_weight_dimension_numbers=_as_matrices, **decay
        )
        others = adamw(lambda step: adam_ratio * rate(step))
        return optax.partition({True: muon, False: others}, _is_convolution)
    raise ValueError(f"unknown optimizer {name!r}")


def _in_an_array(schedule: optax.Schedule) -> optax.Schedule:
    """The schedule, as an element of an array that all updates read.

    XLA for GPU puts the updates of parameters of one shape into one operation if they
    read the same array; for the same number it does not.
    """

    def rate(step: Any) -> jax.Array:
        value = jnp.asarray(schedule(step), jnp.float32)
        return lax.optimization_barrier(jnp.stack([value, value]))[0]

    return rate


def _is_convolution(params: dict[str, Any]) -> dict[str, bool]:
    return {name: name.endswith(".conv.kernel") for name in params}


def _as_matrices(params: dict[str, Any]) -> dict[str, Any]:
    dimensions = optax.contrib.MuonDimensionNumbers((0, 1, 2), 3)
    # By name: optax also asks with placeholders where arrays were.
    return {
        n: dimensions if is_one else None
        for n, is_one in _is_convolution(params).items()
    }


def _is_kernel(params: dict[str, Any]) -> dict[str, bool]:
    return {name: name.endswith(".kernel") for name in params}
