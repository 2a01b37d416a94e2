"""The ResNet family for small images (He et al. 2015, section 4.2).

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition",
https://arxiv.org/abs/1512.03385.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jax_resnet.config import check_depth
from jax_resnet.model.batch_norm import BatchNorm, relu

BATCH_NORM_MOMENTUM = 0.9  # weight of the old running statistics in a step


@dataclass(frozen=True)
class ResNetConfig:
    """Size and options of a ResNet."""

    depth: int = 56  # 6n+2 with n >= 1: 8, 14, 20, 32, 44, 56, 110, ...
    num_classes: int = 100  # number of logits
    in_channels: int = 3  # channels of the input images
    width: int = 1  # multiplies the number of filters
    shortcut: str = "projection"  # ``"projection"`` (option B) or ``"pad"`` (option A)
    # compute dtype of convolutions and activations, float32 or bfloat16
    dtype: str = "float32"
    # mesh axis over whose devices BatchNorm computes the statistics of a training
    # batch; None computes them on each device alone
    axis_name: str | None = None
    # initialises the scale of each block's last BatchNorm with 0, so that the block
    # starts as its shortcut (Goyal et al. 2017, https://arxiv.org/abs/1706.02677,
    # section 5.1).
    zero_init_residual: bool = False

    def __post_init__(self) -> None:
        check_depth(self.depth)


class ConvBatchNorm(nnx.Module):
    """A convolution without bias, then BatchNorm."""

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        config: ResNetConfig,
        rngs: nnx.Rngs,
    ):
        dtype = jnp.dtype(config.dtype)
        self.conv = nnx.Conv(
            in_features,
            features,
            (kernel_size, kernel_size),
            strides=stride,
            # "SAME" would pad stride-2 convolutions on the other side than the
            # published models do.
            padding=kernel_size // 2,
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
            axis_name=config.axis_name,
            rngs=rngs,
        )

    def __call__(self, x: Array, *, train: bool, rectify: bool = False) -> Array:
        """Returns the layers' output, or its ReLU if ``rectify``."""
        return self.norm(self.conv(x), train=train, rectify=rectify)


class BasicBlock(nnx.Module):
    """conv3x3-BN-ReLU-conv3x3-BN, plus the shortcut, then ReLU.

    Where the shape changes, the shortcut is a 1x1 convolution with BatchNorm
    (``"projection"``, option B) or subsampling with zero channels appended (``"pad"``,
    option A, which has no parameters).
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        stride: int,
        config: ResNetConfig,
        rngs: nnx.Rngs,
    ):
        layer = partial(ConvBatchNorm, config=config, rngs=rngs)
        self.conv1 = layer(in_features, features, stride=stride)
        self.conv2 = layer(features, features)
        if config.zero_init_residual:
            self.conv2.norm.scale[...] = jnp.zeros(features)
        self.stride = stride
        self.extra_features = features - in_features
        reshapes = stride != 1 or in_features != features
        self.projection = (
            layer(in_features, features, kernel_size=1, stride=stride)
            if reshapes and config.shortcut == "projection"
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

    The stages have 16, 32 and 64 times ``width`` filters; the second and third halve
    the resolution. Parameters, BatchNorm statistics and logits are float32 whatever
    the compute dtype.
    """

    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
        self.dtype = jnp.dtype(config.dtype)
        layer = partial(ConvBatchNorm, config=config, rngs=rngs)
        block = partial(BasicBlock, config=config, rngs=rngs)
        features = 16 * config.width
        self.stem = layer(config.in_channels, features)
        blocks = []
        for stage in range(3):
            for index in range((config.depth - 2) // 6):
                in_features, features = features, 16 * config.width * 2**stage
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(in_features, features, stride=stride))
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(
            features, config.num_classes, kernel_init=fan_in_uniform, rngs=rngs
        )

    def features(
        self,
        images: Float[Array, "n h w c"],
        *,
        train: bool = False,
        block_weights: Float[Array, "n blocks"] | None = None,
    ) -> Float[Array, "n h4 w4 f"]:
        """Returns the last feature map, at a quarter of the resolution."""
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
        """Returns the logits of images that are normalised as the training images were.

        In training, BatchNorm uses the statistics of the batch and updates the running
        ones. ``block_weights`` multiply what each block adds to its shortcut, for each
        image.
        """
        x = self.features(images, train=train, block_weights=block_weights)
        return self.head(jnp.mean(x, axis=(1, 2), dtype=jnp.float32))


def initialize(key: jax.Array | None, **settings: Any) -> ResNet:
    """Builds a ResNet with random weights from the fields of :class:`ResNetConfig`.

    The key must be concrete. None is for :func:`jax.eval_shape`, where no key is.
    Raises UserError if there is no network of this depth.
    """
    rngs = _NoKeys() if key is None else nnx.Rngs(key)
    return ResNet(ResNetConfig(**settings), rngs=rngs)


class _NoKeys(nnx.Rngs):
    def params(self) -> None: ...


def he_normal(key: jax.Array | None, shape: Sequence[int], dtype: DTypeLike) -> Array:
    """Draws from the normal distribution with variance 2 / fan_out.

    He, Zhang, Ren, Sun: "Delving Deep into Rectifiers",
    https://arxiv.org/abs/1502.01852, section 2.2; for HWIO convolution kernels. The
    key must be concrete; without one the numbers mean nothing.
    """
    height, width, _, out_features = shape
    std = math.sqrt(2 / (height * width * out_features))
    return jnp.asarray(std * _generator(key).standard_normal(shape), dtype)


def fan_in_uniform(
    key: jax.Array | None, shape: Sequence[int], dtype: DTypeLike
) -> Array:
    """Draws uniformly within 1 / sqrt(fan_in), as PyTorch initialises linear layers."""
    bound = 1 / math.sqrt(shape[0])
    return jnp.asarray(_generator(key).uniform(-bound, bound, shape), dtype)


def _generator(key: jax.Array | None) -> np.random.Generator:
    # Drawn on the host: XLA takes a second to compile a normal draw for each new shape,
    # and these numbers are the same on every kind of device.
    return np.random.default_rng(
        None if key is None else np.asarray(jax.random.key_data(key))
    )
