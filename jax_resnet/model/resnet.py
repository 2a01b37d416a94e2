"""The ResNet family for small images (He et al. 2015, section 4.2).

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition",
https://arxiv.org/abs/1512.03385.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jax_resnet.model.batch_norm import BatchNorm, relu
from jax_resnet.runtime.errors import UserError

BATCH_NORM_MOMENTUM = 0.9  # what running statistics keep of their value in a step


def _generator(key: jax.Array | None) -> np.random.Generator:
    # Drawn on the host: XLA takes a second to compile a normal draw for each new
    # shape, and these numbers are the same on every kind of device.
    return np.random.default_rng(
        None if key is None else np.asarray(jax.random.key_data(key))
    )


def he_normal(key: jax.Array | None, shape: Sequence[int], dtype: DTypeLike) -> Array:
    """Normal with variance 2 / fan_out, for HWIO convolution kernels.

    He, Zhang, Ren, Sun: "Delving Deep into Rectifiers",
    https://arxiv.org/abs/1502.01852, section 2.2. The key must be concrete; without
    one the numbers mean nothing.
    """
    height, width, _, out_features = shape
    std = math.sqrt(2 / (height * width * out_features))
    return jnp.asarray(std * _generator(key).standard_normal(shape), dtype)


def fan_in_uniform(
    key: jax.Array | None, shape: Sequence[int], dtype: DTypeLike
) -> Array:
    """Uniform within 1 / sqrt(fan_in), as PyTorch initialises linear layers."""
    bound = 1 / math.sqrt(shape[0])
    return jnp.asarray(_generator(key).uniform(-bound, bound, shape), dtype)


class ConvBatchNorm(nnx.Module):
    """A convolution without bias, padded explicitly, then BatchNorm."""

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        kernel_size: int,
        stride: int,
        dtype: jnp.dtype,
        axis_name: str | None,
        rngs: nnx.Rngs,
    ):
        # "SAME" would pad stride-2 convolutions on the other side than the
        # published models do.
        padding = kernel_size // 2
        self.conv = nnx.Conv(
            in_features,
            features,
            (kernel_size, kernel_size),
            strides=stride,
            padding=((padding, padding), (padding, padding)),
            use_bias=False,
            dtype=dtype,
            kernel_init=he_normal,
            rngs=rngs,
        )
        self.norm = BatchNorm(
            features,
            momentum=BATCH_NORM_MOMENTUM,
            epsilon=1e-5,
            dtype=dtype,
            axis_name=axis_name,
            rngs=rngs,
        )

    def __call__(self, x: Array, *, train: bool, rectify: bool = False) -> Array:
        """The layers' output, or its ReLU."""
        return self.norm(self.conv(x), train=train, rectify=rectify)


class BasicBlock(nnx.Module):
    """conv3x3-BN-ReLU-conv3x3-BN, plus the shortcut, then ReLU.

    Where the shape changes, the shortcut is a 1x1 convolution with BatchNorm
    (``"projection"``, option B) or subsampling with zero channels appended
    (``"pad"``, option A, which has no parameters).
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        stride: int,
        shortcut: str,
        dtype: jnp.dtype,
        axis_name: str | None,
        zero_init: bool,
        rngs: nnx.Rngs,
    ):
        layer = partial(ConvBatchNorm, dtype=dtype, axis_name=axis_name, rngs=rngs)
        self.conv1 = layer(in_features, features, kernel_size=3, stride=stride)
        self.conv2 = layer(features, features, kernel_size=3, stride=1)
        if zero_init:
            scale = self.conv2.norm.scale
            scale[...] = jnp.zeros_like(scale[...])
        self.stride = stride
        self.extra_features = features - in_features
        reshapes = stride != 1 or in_features != features
        self.projection = (
            layer(in_features, features, kernel_size=1, stride=stride)
            if reshapes and shortcut == "projection"
            else None
        )

    def _shortcut(self, x: Array, *, train: bool) -> Array:
        if self.projection is not None:
            return self.projection(x, train=train)
        x = x[:, :: self.stride, :: self.stride]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.extra_features)))

    def __call__(
        self, x: Array, *, train: bool, weight: Float[Array, " n"] | None = None
    ) -> Array:
        """Maps ``[n, h, w, c]`` to ``[n, h/stride, w/stride, features]``.

        ``weight`` multiplies what each image adds to its shortcut.
        """
        y = self.conv1(x, train=train, rectify=True)
        y = self.conv2(y, train=train)
        if weight is not None:
            y = y * weight.astype(y.dtype)[:, None, None, None]
        return relu(y + self._shortcut(x, train=train))


class ResNet(nnx.Module):
    """ResNet of depth 6n+2: a stem, three stages of n basic blocks, a linear head.

    The stages have 16, 32 and 64 times ``width`` filters; the second and third
    halve the resolution. Parameters, BatchNorm statistics and logits are float32
    whatever the compute dtype.

    Args:
        depth: 6n+2 with n >= 1: 8, 14, 20, 32, 44, 56, 110, ...
        num_classes: number of logits.
        in_channels: channels of the input images.
        width: multiplies the number of filters.
        shortcut: ``"projection"`` (option B) or ``"pad"`` (option A).
        dtype: compute dtype of convolutions and activations, float32 or bfloat16.
        axis_name: of the mesh, over whose devices BatchNorm in training takes its
            statistics together; None takes them over the images given.
        zero_init_residual: the last BatchNorm of each block starts with a scale of
            zero, so that each block starts as its shortcut (Goyal et al. 2017,
            https://arxiv.org/abs/1706.02677, section 5.1).
        rngs: the source of the initial weights.

    Raises:
        UserError: for a depth that is not 6n+2, or another value out of range.
    """

    def __init__(
        self,
        *,
        depth: int = 56,
        num_classes: int = 100,
        in_channels: int = 3,
        width: int = 1,
        shortcut: str = "projection",
        dtype: str = "float32",
        axis_name: str | None = None,
        zero_init_residual: bool = False,
        rngs: nnx.Rngs,
    ):
        if depth < 8 or (depth - 2) % 6:
            below = max(8, (depth - 2) // 6 * 6 + 2)
            raise UserError(
                f"model.depth must be 6n+2 with n >= 1, not {depth}: "
                f"the nearest are {below} and {below + 6}"
            )
        if width < 1:
            raise UserError(f"model.width must be at least 1, not {width}")
        if shortcut not in ("projection", "pad"):
            raise UserError(
                f"model.shortcut must be 'projection' or 'pad', not {shortcut!r}"
            )
        if dtype not in ("float32", "bfloat16"):
            raise UserError(
                f"model.dtype must be 'float32' or 'bfloat16', not {dtype!r}"
            )
        compute_dtype = jnp.dtype(dtype)
        self.dtype = compute_dtype
        features = 16 * width
        self.stem = ConvBatchNorm(
            in_channels,
            features,
            kernel_size=3,
            stride=1,
            dtype=compute_dtype,
            axis_name=axis_name,
            rngs=rngs,
        )
        blocks = []
        for stage in range(3):
            for index in range((depth - 2) // 6):
                in_features, features = features, 16 * width * 2**stage
                blocks.append(
                    BasicBlock(
                        in_features,
                        features,
                        stride=2 if stage > 0 and index == 0 else 1,
                        shortcut=shortcut,
                        dtype=compute_dtype,
                        axis_name=axis_name,
                        zero_init=zero_init_residual,
                        rngs=rngs,
                    )
                )
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(
            features, num_classes, kernel_init=fan_in_uniform, rngs=rngs
        )

    def features(
        self,
        images: Float[Array, "n h w c"],
        *,
        train: bool = False,
        block_weights: Float[Array, "n blocks"] | None = None,
    ) -> Float[Array, "n h4 w4 f"]:
        """The last feature map, before pooling, at a quarter of the resolution."""
        x = self.stem(images.astype(self.dtype), train=train, rectify=True)
        for index, block in enumerate(self.blocks):
            weight = None if block_weights is None else block_weights[:, index]
            x = block(x, train=train, weight=weight)
        return x

    def __call__(
        self,
        images: Float[Array, "n h w c"],
        *,
        train: bool = False,
        block_weights: Float[Array, "n blocks"] | None = None,
    ) -> Float[Array, "n classes"]:
        """Logits of normalised images.

        Args:
            images: normalised as the training images were.
            train: normalise with the batch's statistics and update the running
                ones, instead of using these.
            block_weights: multiply what each block adds, for each image; None is 1.
        """
        x = self.features(images, train=train, block_weights=block_weights)
        return self.head(jnp.mean(x, axis=(1, 2), dtype=jnp.float32))


def initialize(key: jax.Array | None, **settings: object) -> ResNet:
    """A ResNet with random weights; ``settings`` are :class:`ResNet`'s arguments.

    Without a key it is for :func:`jax.eval_shape`, and traced in a third of the time.
    """
    rngs = _NoKeys() if key is None else nnx.Rngs(key)
    return ResNet(**settings, rngs=rngs)  # type: ignore[arg-type]


class _NoKeys(nnx.Rngs):
    # Others count the keys that they give, which takes long where it is traced.
    def params(self) -> None: ...
