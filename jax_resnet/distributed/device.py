"""Selects the device, XLA's options for it, and the cache of compiled programs."""

import functools
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import cache_folder

_CACHE_BYTES = 64 * 2**20  # enough for the programs of a run
_CPU_LIBRARIES = "xla_cpu_experimental_ynn_fusion_type"
_CUDA_GRAPHS = "xla_gpu_enable_command_buffer"
_log = logging.getLogger(__name__)


def select(kind: str, option: str = "--config.train.device") -> jax.Device:
    """Selects the first device of a kind as JAX's default; call it before any other.

    The kind is ``"gpu"``, ``"cpu"``, or ``"auto"`` for a GPU if there is one.
    ``option`` names the command-line option for the :class:`UserError` that there is no
    such device.
    """
    if kind not in ("auto", "gpu", "cpu"):
        raise UserError(f"{option} must be 'auto', 'gpu' or 'cpu', not {kind!r}")
    if kind == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        device = jax.local_devices(backend=None if kind == "auto" else kind)[0]
    # JAX asserts where a plugin is installed and finds no device.
    except (RuntimeError, AssertionError) as error:
        wanted = f"{option}=gpu"
        if kind != "gpu":
            wanted = f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}"
        raise UserError(
            f"{wanted} needs a device that JAX does not find: check nvidia-smi and "
            f'pip install -e ".[cuda12]", or use {option}=cpu'
        ) from error
    jax.config.update("jax_default_device", device)
    return device


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
    """Returns the dtype in which a device computes convolutions fastest.

    That is bfloat16 on GPUs of compute capability 8.0 or later, else float32.
    """
    if device.platform != "gpu":
        return "float32"
    major, _ = device.compute_capability.split(".")
    return "bfloat16" if int(major) >= 8 else "float32"


@dataclass(frozen=True)
class CompilerOptions:
    """XLA's options for one program, and a name for them in messages."""

    name: str
    values: dict[str, str]


def compiler_options(device: jax.Device, *, alone: bool) -> list[CompilerOptions]:
    """Returns the options to compile a step with, best first.

    On a CPU, jaxlib 0.12 gives convolutions to YNNPACK; a training step is faster with
    Eigen's (``benchmarks/README.md``). On a GPU, a call that loops over steps becomes
    one CUDA graph if graphs may contain convolutions and loops. Programs of several
    GPUs (not ``alone``) communicate, and keep XLA's default. ``XLA_FLAGS`` that the
    user has set take precedence.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    default = CompilerOptions("XLA's default", {})
    if device.platform == "cpu" and _CPU_LIBRARIES not in flags:
        prefix = "LIBRARY_FUSION_TYPE_"
        values = {_CPU_LIBRARIES: f"{prefix}INDIVIDUAL_DOT,{prefix}REDUCE"}
        if _is_accepted(device, tuple(values.items())):
            return [CompilerOptions("Eigen's convolutions", values)]
    if device.platform == "gpu" and alone and _CUDA_GRAPHS not in flags:
        graphs = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,CONVOLUTION"
        return [
            CompilerOptions("CUDA graph for a call", {_CUDA_GRAPHS: f"{graphs},WHILE"}),
            CompilerOptions("CUDA graph for a step", {_CUDA_GRAPHS: graphs}),
            default,
        ]
    return [default]


@functools.cache
def _is_accepted(device: jax.Device, options: tuple[tuple[str, str], ...]) -> bool:
    """Returns whether this jaxlib knows the compiler options."""
    sharding = jax.sharding.SingleDeviceSharding(device)
    number = jax.ShapeDtypeStruct((), jnp.float32, sharding=sharding)
    lowered = jax.jit(jnp.negative).lower(number)
    try:
        lowered.compile(compiler_options=dict(options))
    except jax.errors.JaxRuntimeError:
        return False
    return True


def cache_compilations(directory: str, device: jax.Device) -> None:
    """Keeps compiled programs on disk for the next start; without a cache if it fails.

    ``directory`` is "" for ``$JAX_COMPILATION_CACHE_DIR``, or else
    ``$XDG_CACHE_HOME/jax_resnet/xla``.
    """
    default = cache_folder() / "xla" / device.platform
    path = Path(directory or os.environ.get("JAX_COMPILATION_CACHE_DIR") or default)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        # JAX never replaces a program that it could not write completely.
        if shutil.disk_usage(path).free < _CACHE_BYTES:
            raise OSError("the disk is full")
    except OSError as error:
        _log.info("no cache of compiled programs: %s", error)
        jax.config.update("jax_compilation_cache_dir", None)
        return
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
