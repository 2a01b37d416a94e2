"""Selects the device, XLA's options for it, and the cache of compiled programs."""

import functools
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.jax_settings import check_settings
from jax_resnet.runtime.packages import install
from jax_resnet.runtime.paths import cache_folder, user_path

_CACHE_BYTES = 64 * 2**20  # enough for the programs of a run
_CPU_LIBRARIES = "xla_cpu_experimental_ynn_fusion_type"
_NO_CONVOLUTIONS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
_CUDA_GRAPHS = "xla_gpu_enable_command_buffer"
_log = logging.getLogger(__name__)


def select(kind: str) -> jax.Device:
    """Makes what :func:`find` returns JAX's default device, for the whole process."""
    device = find(kind)
    jax.config.update("jax_default_device", device)
    return device


def find(kind: str) -> jax.Device:
    """Returns the first device of a kind; call it before anything is computed.

    The kind is ``"gpu"``, ``"cpu"``, or ``"auto"`` for a GPU if there is one. Raises
    UserError if there is no such device.
    """
    check_xla_flags()
    check_settings()
    if kind == "cpu":
        for setting in ("jax_platforms", "jax_platform_name"):
            jax.config.update(setting, "cpu")
    try:
        return jax.local_devices(backend=None if kind == "auto" else kind)[0]
    # JAX asserts where a plugin is installed and finds no device.
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"JAX finds no device of kind {kind!r}: check nvidia-smi, JAX_PLATFORMS, "
            f"JAX_PLATFORM_NAME and {install('cuda12')}, or choose the device 'cpu'"
        ) from error


@functools.cache
def check_xla_flags() -> None:
    """Raises UserError for ``XLA_FLAGS`` with which XLA would end this process."""
    if "XLA_FLAGS" in os.environ:
        parse = [sys.executable, "-c", "from jaxlib import _jax; _jax.CompileOptions()"]
        errors = subprocess.run(parse, capture_output=True).stderr.decode(
            "utf-8", "replace"
        )
        if "parse_flags_from_env" in errors:
            reason = errors.partition("] ")[2].splitlines()[0]
            raise UserError(f"XLA refuses XLA_FLAGS: {reason}")


def current() -> jax.Device:
    """Returns JAX's default device."""
    (device,) = jnp.zeros(()).devices()
    return device


def describe(device: jax.Device) -> str:
    """Returns the device's name for people."""
    if device.platform == "cpu":
        return f"CPU with {len(os.sched_getaffinity(0))} cores"
    return device.device_kind


def fastest_dtype(device: jax.Device) -> str:
    """Returns bfloat16 for GPUs of compute capability 8.0 or later, else float32."""
    if device.platform != "gpu":
        return "float32"
    return "bfloat16" if float(device.compute_capability) >= 8 else "float32"


@dataclass(frozen=True)
class CompilerOptions:
    """XLA's options for one program, and a name for them in messages."""

    name: str
    values: dict[str, str]


_DEFAULT = CompilerOptions("XLA's default", {})
_EIGEN = CompilerOptions("Eigen's convolutions", {_CPU_LIBRARIES: _NO_CONVOLUTIONS})


def compiler_options(device: jax.Device, *, alone: bool) -> list[CompilerOptions]:
    """Returns the options to compile a step with, best first.

    On a CPU, jaxlib 0.12 gives convolutions to YNNPACK; a training step is faster with
    Eigen's (``benchmarks/README.md``). On a GPU, a call that loops over steps becomes
    one CUDA graph if graphs may contain convolutions and loops. Programs of several
    GPUs (not ``alone``) communicate, and keep XLA's default. ``XLA_FLAGS`` that the
    user has set take precedence.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if device.platform == "cpu" and _CPU_LIBRARIES not in flags and _knows_eigen():
        return [_EIGEN]
    if device.platform == "gpu" and alone and _CUDA_GRAPHS not in flags:
        graphs = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,CONVOLUTION"
        return [
            CompilerOptions("CUDA graph for a call", {_CUDA_GRAPHS: f"{graphs},WHILE"}),
            CompilerOptions("CUDA graph for a step", {_CUDA_GRAPHS: graphs}),
            _DEFAULT,
        ]
    return [_DEFAULT]


@functools.cache
def _knows_eigen() -> bool:
    """Returns whether this jaxlib knows the option for Eigen's convolutions."""
    try:
        jax.jit(jnp.negative).lower(0.0).compile(compiler_options=_EIGEN.values)
    except jax.errors.JaxRuntimeError:
        return False
    return True


def cache_compilations(directory: str, device: jax.Device) -> None:
    """Keeps compiled programs on disk for the next start; without a cache if it fails.

    ``directory`` is "" for JAX's setting ``jax_compilation_cache_dir``, which begins as
    ``$JAX_COMPILATION_CACHE_DIR``, or else ``$XDG_CACHE_HOME/jax_resnet/xla``.
    """
    chosen = directory or jax.config.jax_compilation_cache_dir or ""
    try:
        if "://" not in chosen:  # a bucket, which JAX reaches itself
            folder = user_path(chosen or cache_folder() / "xla" / device.platform)
            folder = folder.absolute()
            _check_room(folder)
            chosen = str(folder)
    except (OSError, ValueError) as error:
        _log.info("no cache of compiled programs: %s", error)
        jax.config.update("jax_compilation_cache_dir", None)
        return
    jax.config.update("jax_compilation_cache_dir", chosen)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _check_room(folder: Path) -> None:
    """Makes a folder for compiled programs.

    Raises OSError or UnicodeEncodeError if it cannot take them.
    """
    str(folder).encode()  # JAX reads names in UTF-8 alone
    folder.mkdir(parents=True, exist_ok=True)
    # JAX never replaces a program that it could not write completely.
    is_full = shutil.disk_usage(folder).free < _CACHE_BYTES
    if is_full or not os.access(folder, os.W_OK):
        raise OSError(f"{folder} cannot be written")
