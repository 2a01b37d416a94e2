"""BatchNorm whose training step takes few passes over the activations.

Ioffe, Szegedy 2015, https://arxiv.org/abs/1502.03167, algorithm 1. One reduction
computes both sums of the forward pass, and one both sums of the gradient. The gradient
of :class:`flax.nnx.BatchNorm`, by automatic differentiation, takes three.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Float32

_PIXELS = (0, 1, 2)  # all axes of [n, h, w, c] but the channels


@jax.custom_vjp
def relu(x: Array) -> Array:
    """Computes a ReLU that XLA keeps in memory.

    XLA for CPU would otherwise compute a block's output again for each of its readers,
    from the outputs of all blocks before it in the stage.
    """
    return lax.optimization_barrier(nnx.relu(x))


relu.defvjp(
    lambda x: (relu(x),) * 2,
    lambda y, gradient: (jnp.where(y > 0, gradient, 0),),
)


class BatchNorm(nnx.BatchNorm):
    """:class:`flax.nnx.BatchNorm` over ``[n, h, w, c]``, with an optional ReLU.

    It has the arguments and variables of Flax's. Training computes in float32 and
    rounds once. Evaluation is Flax's.
    """

    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool, rectify: bool = False
    ) -> Float[Array, "n h w c"]:
        """Normalises ``x``, and takes the ReLU of it if ``rectify``.

        With ``train`` it uses the statistics of the batch, and updates the running
        ones. Otherwise, or with Flax's ``use_running_average``, it uses the running
        ones.
        """
        if not train or self.use_running_average:
            y = super().__call__(x, use_running_average=True)
            return relu(y) if rectify else y
        scale, bias = jnp.asarray(self.scale[...]), jnp.asarray(self.bias[...])
        x = x.astype(self.dtype)
        y, mean, var = normalize(x, scale, bias, self.epsilon, self.axis_name, rectify)
        momentum = self.momentum
        self.mean[...] = momentum * self.mean[...] + (1 - momentum) * mean
        self.var[...] = momentum * self.var[...] + (1 - momentum) * var
        return y


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def normalize(
    x: Float[Array, "n h w c"],
    scale: Float32[Array, " c"],
    bias: Float32[Array, " c"],
    epsilon: float,
    axis_name: str | None,
    rectify: bool,
) -> tuple[Float[Array, "n h w c"], Float32[Array, " c"], Float32[Array, " c"]]:
    """Computes ``(x - mean) / sqrt(var + epsilon) * scale + bias``, or its ReLU.

    Mean and variance are taken over ``x`` alone, or over all devices along the mesh
    axis ``axis_name``.

    Returns:
        The result in the dtype of ``x``, the mean and the biased variance of each
        channel. Gradients flow through the result alone.
    """
    return _forward(x, scale, bias, epsilon, axis_name, rectify)[0]


def _forward(
    x: Array,
    scale: Array,
    bias: Array,
    epsilon: float,
    axis_name: str | None,
    rectify: bool,
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    values = x.astype(jnp.float32)
    mean, square = _means(_sums(values, lax.square(values)), x, axis_name)
    var = jnp.maximum(0.0, square - lax.square(mean))  # rounding may go below zero
    inverse = lax.rsqrt(var + epsilon)
    y = _affine(_centred(x, mean), scale, bias, inverse).astype(x.dtype)
    y = relu(y) if rectify else y
    return (y, mean, var), (x, y, scale, bias, mean, inverse)


def _backward(
    epsilon: float,
    axis_name: str | None,
    rectify: bool,
    residuals: tuple[Array, ...],
    gradients: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array]:
    x, y, scale, bias, mean, inverse = residuals
    dy, centred = gradients[0].astype(jnp.float32), _centred(x, mean)
    masked = jnp.where(y > 0, dy, 0.0) if rectify else dy
    sums = _sums(masked, masked * centred)
    dbias, dscale = sums[0], sums[1] * inverse
    offset, slope = _means(sums, x, axis_name)
    slope = slope * lax.square(inverse)
    if rectify:
        # Computes the sign again, so that this pass over the pixels need not read y.
        masked = jnp.where(_affine(centred, scale, bias, inverse) > 0, dy, 0.0)
    dx = _row(inverse * scale) * (masked - _row(offset) - centred * _row(slope))
    return dx.astype(x.dtype), dscale, dbias


normalize.defvjp(_forward, _backward)


def _centred(x: Array, mean: Array) -> Array:
    return x.astype(jnp.float32) - _row(mean)


def _affine(centred: Array, scale: Array, bias: Array, inverse: Array) -> Array:
    return centred * _row(inverse * scale) + _row(bias)


def _row(channels: Array) -> Array:
    return channels[None, None, None]


def _means(
    sums: tuple[Array, Array], x: Array, axis_name: str | None
) -> tuple[Array, Array]:
    """Divides sums by the number of pixels, and averages over the devices."""
    count = x.size // x.shape[-1]
    first, second = sums[0] / count, sums[1] / count
    if axis_name is not None:
        # One array is one message.
        first, second = lax.pmean(jnp.stack([first, second]), axis_name)
    return first, second


def _sums(a: Array, b: Array) -> tuple[Array, Array]:
    """Sums two arrays over the pixels, in one pass where that is faster."""

    def one_pass(a: Array, b: Array) -> tuple[Array, Array]:
        zeros = (jnp.float32(0), jnp.float32(0))
        return tuple(lax.reduce((a, b), zeros, partial(jax.tree.map, lax.add), _PIXELS))

    # XLA for CPU takes longer for both at once than for one after the other.
    return lax.platform_dependent(
        a, b, cpu=lambda a, b: (a.sum(_PIXELS), b.sum(_PIXELS)), default=one_pass
    )
