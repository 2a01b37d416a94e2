"""The program that a GPU would run, counted without a GPU.

    pip install -e ".[cuda13]"
    python benchmarks/gpu_program.py --config configs/resnet56.py

It compiles a step of a config for a GPU that need not be there, and counts what that
GPU would be given to do. ``XLA_FLAGS`` are respected; as in training, those that name
``xla_gpu_enable_command_buffer`` leave the choice of CUDA graphs to XLA. It needs Linux
on x86-64 and JAX's CUDA build, of the extra ``cuda12`` or ``cuda13``; no driver. It
knows neither what autotuning would choose nor how long anything takes.
"""

import collections
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tables
from arguments import add_output, check_output
from hlo_operations import Operation, kind_of, kinds, operations_of_a_step
from ml_collections import ConfigDict
from variant import TRAIN_IMAGES, random_info

from jax_resnet import config
from jax_resnet.checkpoint.history import installed_versions
from jax_resnet.data import Dataset, Description
from jax_resnet.distributed import device
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.build import RunBuilder
from jax_resnet.training.metrics import RunningMetrics

TEST_IMAGES = 10_000
# Name, bytes of memory, bytes/s to and from it. All else is alike.
GPUS = {
    "h100": ("NVIDIA H100 80GB HBM3", 84_942_979_072, 3_352_320_000_000),
    "h200": ("NVIDIA H200", 150_754_820_096, 4_800_000_000_000),
}
_TARGET = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: {memory}
  shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  device_vendor: "NVIDIA Corporation"
  platform_version: "Compute Capability 9.0"
  device_address_bits: 64
  pcie_bandwidth: 34359738368
  ecc_enabled: true
  name: "{name}"
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{name}"
"""


def target(name: str) -> jax.Device:
    """A GPU in :data:`GPUS` to compile for.

    Raises:
        UserError: if JAX cannot compile for it here.
    """
    from jax.experimental import topologies

    description, memory, bandwidth = GPUS[name]
    text = _TARGET.format(name=description, memory=memory, bandwidth=bandwidth)
    try:
        topology = topologies.get_topology_desc(
            platform="cuda", target_config=text, topology="1x1x1"
        )
    except Exception as error:  # of many types, by version
        raise UserError(
            'JAX cannot compile for CUDA here; pip install -e ".[cuda13]" or cuda12: '
            f"{str(error).splitlines()[0]}"
        ) from error
    return topology.devices[0]


def lowered_step(
    settings: ConfigDict, gpu: jax.Device, program: str
) -> tuple[Any, dict[str, Any]]:
    """Returns the program that loops over steps, to be compiled, and XLA's options.

    Args:
        settings: an unlocked config; its images have CIFAR-100's size and number.
        gpu: the device to compile for.
        program: ``"train"`` or ``"eval"``.
    """
    if settings.data.placement == "auto":
        settings.data.placement = "device"  # There is no GPU to ask for its memory.
    images = Description(random_info(), TRAIN_IMAGES, TEST_IMAGES, load=_no_images)
    builder = RunBuilder(settings, DeviceMesh((gpu,)), images)
    steps, state = builder.build(jax.random.key(0))
    sharding = jax.sharding.SingleDeviceSharding(gpu)
    state, metrics, count = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        (state, RunningMetrics.zeros(), np.zeros((), np.int32)),
    )
    if program == "eval":
        arrays = (*steps.pipeline.abstract_eval(), state.weights)
        lowered = steps.evaluate.lower((count, metrics), *arrays)
    else:
        arrays = steps.pipeline.abstract_train()
        lowered = steps.train(0).lower((state, metrics), *arrays)
    return lowered, device.compiler_options(gpu, alone=True)[0].values


def _no_images() -> Dataset:
    raise NotImplementedError("the program is compiled from shapes alone")


@dataclass(frozen=True)
class Launches:
    """Launches from the host, by XLA's names of their kinds.

    Attributes:
        step: launches in each turn of the loop; none if the loop is part of a graph.
        call: launches before and after the loop, and the loop itself.
    """

    step: collections.Counter[str]
    call: collections.Counter[str]


def launches(thunks: str) -> Launches:
    """Counts the launches from the host.

    Args:
        thunks: XLA's dump of a program's thunks.
    """
    found = Launches(collections.Counter(), collections.Counter())
    # The indentation of launches in a turn of the loop, once there is one.
    in_loop, indent, loop = False, 0, 0
    for line in thunks.splitlines():
        if re.match(" *(condition|body):", line):
            # A loop within a graph or another loop is not counted further.
            if loop == 0:
                in_loop, indent = True, 0
        elif thunk := re.match(r"( *)\d+:\s+k(\w+)", line):
            depth, name = len(thunk[1]), thunk[2]
            loop = depth if name == "While" else loop
            if depth == 0:
                in_loop = False
                found.call[name] += 1
            elif in_loop:
                indent = indent or depth
                found.step[name] += depth == indent
    return found


@dataclass(frozen=True)
class Compiled:
    """A compiled program, analysed.

    Attributes:
        operations: the operations of a step.
        launches: launches from the host; None if XLA has not written its thunks.
        memory: JAX's analysis of the program's memory.
        seconds: duration of compilation.
    """

    operations: list[Operation]
    launches: Launches | None
    memory: Any
    seconds: float


def compiled(lowered: Any, options: dict[str, Any]) -> Compiled:
    """Compiles a program for the device that its arguments are on."""
    with tempfile.TemporaryDirectory() as folder:
        dump = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        started = time.monotonic()
        program = lowered.compile(compiler_options=options | dump)
        seconds = time.monotonic() - started
        found = [
            path
            for pattern in ("*thunk_sequence_after_thunk_passes*", "*thunk_sequence*")
            for path in sorted(Path(folder).glob(pattern))
        ]
        started_by_host = launches(found[0].read_text("utf-8")) if found else None
    operations = operations_of_a_step(program.as_text())
    return Compiled(operations, started_by_host, program.memory_analysis(), seconds)


def report(found: Compiled, *, training: bool) -> str:
    """The tables."""
    rows = []
    for kind in kinds(training):
        chosen = [o for o in found.operations if kind_of(o, training=training) == kind]
        rows.append([kind, str(len(chosen)), _megabytes(sum(o.bytes for o in chosen))])
    total = sum(o.bytes for o in found.operations)
    rows.append(["all", f"{len(found.operations):,}", _megabytes(total)])
    operations = tables.table(["operations of a step", "number", "MB in and out"], rows)
    memory = found.memory
    step, call = "not known", "not known"
    if found.launches:
        step, call = _counted(found.launches.step), _counted(found.launches.call)
    other = [
        ["the host starts in a step", step],
        ["and else in a call", call],
        ["temporary memory, MB", _megabytes(memory.temp_size_in_bytes)],
        ["arguments, MB", _megabytes(memory.argument_size_in_bytes)],
        ["results in the arguments' place, MB", _megabytes(memory.alias_size_in_bytes)],
        ["compilation, s", f"{found.seconds:.0f}"],
    ]
    return f"{operations}\n\n{tables.table(['the program', ''], other)}\n"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"


def _counted(counts: collections.Counter[str]) -> str:
    kinds = ", ".join(f"{n} {name}" for name, n in counts.most_common() if n)
    return f"{counts.total():,}" + (f": {kinds}" if kinds else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = Parser(
        prog="python benchmarks/gpu_program.py",
        description="Counts the operations of a step, compiled for a GPU.",
        epilog="--config.a.b=value overrides a field of the config.",
    )
    parser.add_argument("--config", required=True, metavar="FILE.py")
    parser.add_argument("--program", choices=("train", "eval"), default="train")
    parser.add_argument("--gpu", choices=tuple(GPUS), default="h100")
    add_output(parser)
    chosen, overrides = parser.parse_known_args(arguments)
    check_output(chosen)
    load = os.getloadavg()[0]
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    gpu = target(chosen.gpu)
    settings = config.load(chosen.config, overrides)
    settings = config.with_dtype(settings, device.fastest_dtype(gpu)).unlock()
    step = lowered_step(settings, gpu, chosen.program)
    model, train = settings.model, settings.train
    batch = {"train": train.batch_size, "eval": train.eval_batch_size}[chosen.program]
    work = [
        f"Work: one step of {chosen.program}, ResNet-{model.depth}, batch {batch}, "
        f"{model.dtype}, compiled for one {GPUS[chosen.gpu][0]}; nothing was run",
        f"XLA_FLAGS: {os.environ.get('XLA_FLAGS') or 'none'}",
    ]
    top = tables.heading(
        "gpu_program.py",
        sys.argv[1:] if arguments is None else arguments,
        work,
        load=load,
        versions=installed_versions(),
    )
    found = compiled(*step)
    text = f"{top}\n\n{report(found, training=chosen.program == 'train')}"
    print(text, end="")
    tables.write(text, chosen.output)
    return 0


if __name__ == "__main__":
    run(main)
