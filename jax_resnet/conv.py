"""Convolution whose gradients are quick on CPUs too.

XLA's CPU backend has fast kernels for convolutions of channels-last images with
HWIO kernels, and rewrites others to that form, but not inside the body of a loop:
there both gradients of a plain convolution, whose operands are permuted, run as
scalar code, 10 to 80 times slower (jax 0.10). Here they are written in the fast
form to begin with. Other platforms get the stock gradients.
"""

import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
from jax import Array, lax
from jaxtyping import Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_NUMBERS = lax.conv_dimension_numbers((1,) * 4, (1,) * 4, _LAYOUT)

Pads = tuple[tuple[int, int], ...]


def conv_general_dilated(
    lhs: Float[Array, "..."],
    rhs: Float[Array, "..."],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> Float[Array, "..."]:
    """Computes `jax.lax.conv_general_dilated`, with quick gradients on CPUs.

    For `flax.nnx.Conv(conv_general_dilated=...)`. Values and gradients are those
    of the stock function up to rounding. What is not a plain NHWC convolution
    (dilated, grouped, another layout or rank) is passed to the stock function.
    A plain one has no forward-mode derivative.

    Args:
      lhs: images, `[batch, height, width, channels]`.
      rhs: kernel, `[height, width, channels, filters]`.
      window_strides: strides over height and width.
      padding: "SAME", "VALID", or low and high padding of height and width.
      lhs_dilation: as in the stock function.
      rhs_dilation: as in the stock function.
      dimension_numbers: as in the stock function; ("NHWC", "HWIO", "NHWC") or
        its `ConvDimensionNumbers` make the convolution plain.
      feature_group_count: as in the stock function.
      batch_group_count: as in the stock function.
      precision: as in the stock function.
      preferred_element_type: as in the stock function.
      out_sharding: as in the stock function.

    Returns:
      The convolved images, `[batch, height, width, filters]`.
    """
    plain = (
        lhs.ndim == rhs.ndim == 4
        and lhs.dtype == rhs.dtype
        and dimension_numbers in (_LAYOUT, _NUMBERS)
        and set(lhs_dilation or (1,)) | set(rhs_dilation or (1,)) == {1}
        and feature_group_count == batch_group_count == 1
        and preferred_element_type is None
        and out_sharding is None
    )
    if not plain:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            batch_group_count=batch_group_count,
            precision=precision,
            preferred_element_type=preferred_element_type,
            out_sharding=out_sharding,
        )
    strides = tuple(window_strides)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    return _plain_conv(lhs, rhs, strides, pads, precision)


def _nhwc(x: Array, w: Array, strides: Sequence[int], pads: Pads, **kwargs: Any) -> Array:
    return lax.conv_general_dilated(
        x, w, strides, pads, dimension_numbers=_LAYOUT, **kwargs
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _plain_conv(
    x: Array, w: Array, strides: tuple[int, int], pads: Pads, precision: Any
) -> Array:
    return _nhwc(x, w, strides, pads, precision=precision)


def _forward(
    x: Array, w: Array, strides: tuple[int, int], pads: Pads, precision: Any
) -> tuple[Array, tuple[Array, Array]]:
    return _plain_conv(x, w, strides, pads, precision), (x, w)


def _backward(
    strides: tuple[int, int],
    pads: Pads,
    precision: Any,
    operands: tuple[Array, Array],
    dy: Array,
) -> tuple[Array, Array]:
    def stock(x: Array, w: Array, dy: Array) -> tuple[Array, Array]:
        conv = functools.partial(_nhwc, strides=strides, pads=pads, precision=precision)
        return jax.vjp(conv, x, w)[1](dy)

    def canonical(x: Array, w: Array, dy: Array) -> tuple[Array, Array]:
        dx_pads, dw_pads = [], []
        sizes = zip(x.shape[1:3], w.shape[:2], dy.shape[1:3], strides, pads, strict=True)
        for size, window, out, stride, (low, _) in sizes:
            # The last pixel read, counted from the image's first; padding that
            # the window never reaches, and pixels that it skips, drop out.
            reach = (out - 1) * stride + window - low
            dx_pads.append((window - 1 - low, size - reach + window - 1))
            dw_pads.append((low, reach - size))
        dx = _nhwc(
            dy,
            w[::-1, ::-1].swapaxes(2, 3),
            (1, 1),
            tuple(dx_pads),
            lhs_dilation=strides,
            precision=precision,
        )
        # Channels act as the batch, and the batch as the channels.
        dw = _nhwc(
            x.transpose(3, 1, 2, 0),
            dy.transpose(1, 2, 0, 3),
            (1, 1),
            tuple(dw_pads),
            rhs_dilation=strides,
            precision=precision,
        )
        return dx, dw.transpose(1, 2, 0, 3)

    return lax.platform_dependent(*operands, dy, cpu=canonical, default=stock)


_plain_conv.defvjp(_forward, _backward)
