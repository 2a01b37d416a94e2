"""ResNet-56 for CIFAR-100 in pure JAX and Flax."""

import time
from importlib.metadata import PackageNotFoundError, version

IMPORTED = time.monotonic()  # nearly the start of a command's process

try:
    __version__ = version("jax-resnet-cifar")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"
