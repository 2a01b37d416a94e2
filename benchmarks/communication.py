"""What several devices say to each other in a training step, and what that costs.

    python benchmarks/communication.py --devices 8

The collectives are counted in the compiled program. The estimate of how the rate grows
with the devices is arithmetic from them and from the options, not a measurement.
"""

import argparse
import math
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
from tables import heading, table
from variant import random_info

DTYPES = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "pred": 1}


@dataclass(frozen=True)
class Collective:
    """One collective of a program.

    Attributes:
        kind: such as ``all-reduce``.
        bytes: of what it combines, on one device.
    """

    kind: str
    bytes: int


def collectives(program: str) -> list[Collective]:
    """The collectives in the text of a compiled program.

    Args:
        program: in HLO, after all optimisations.
    """
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    line = re.compile(rf"= (?P<shape>.*?) (?P<kind>{kinds})(-start)?\(")
    found = []
    for match in line.finditer(program):
        parts = re.findall(r"(\w+)\[([\d,]*)\]", match["shape"])
        size = sum(
            DTYPES[dtype] * math.prod(int(n) for n in dims.split(",") if n)
            for dtype, dims in parts
        )
        found.append(Collective(match["kind"], size))
    return found


def seconds_of_an_all_reduce(
    size: float, devices: int, *, bandwidth: float, latency: float
) -> float:
    """The better of a ring and a tree.

    A ring has 2 (n-1) messages of size / n one after the other, a tree there and back
    2 log2(n) of the whole size (Thakur et al. 2005,
    https://doi.org/10.1177/1094342005051521, sections 4.4 and 4.5).

    Args:
        size: bytes that each device has.
        devices: n.
        bandwidth: bytes/s of a device, one way.
        latency: seconds of a message.
    """
    messages = 2 * (devices - 1)
    ring = messages * (latency + size / devices / bandwidth)
    tree = 2 * math.ceil(math.log2(devices)) * (latency + size / bandwidth)
    return min(ring, tree)


def compiled_step(depth: int, batch_size: int, devices: int, statistics: str) -> str:
    """The training step of the reference recipe on CIFAR-100's shapes, as HLO."""
    from jax_resnet import config
    from jax_resnet.distributed.mesh import DeviceMesh
    from jax_resnet.training.build import RunBuilder

    reference = Path(__file__).parent.parent / "configs" / "resnet56.py"
    fields = {
        "model.depth": depth,
        "model.dtype": "float32",
        "augment.transforms": ("normalize",),
        "mesh.batch_norm": statistics,
        "train.batch_size": batch_size,
        "train.eval_batch_size": devices,
    }
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    settings = config.load(str(reference), overrides)
    chosen = DeviceMesh(tuple(jax.devices()[:devices]))
    info = random_info()
    builder = RunBuilder(settings, chosen, info, n_train=batch_size, n_eval=devices)
    built = builder.build(jax.random.key(0))
    built.steps.compile(chosen.place(built.state))
    return built.steps.train(0).text()


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--depth", type=int, default=56)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument(
        "--ms-per-step",
        type=float,
        nargs="*",
        default=[1.0, 4.0],
        help="what a step of this batch may take on one device",
    )
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", options.devices)

    from jax_resnet.checkpoint.history import installed_versions

    work = [
        f"Work: a training step of ResNet-{options.depth}, batch "
        f"{options.batch_size}, float32, on {options.devices} virtual devices",
        "Counted in the compiled program: collectives, and the bytes they combine",
    ]
    print(
        heading(
            "communication.py",
            sys.argv[1:],
            work,
            load=os.getloadavg()[0],
            versions=installed_versions(),
        )
    )
    rows, sizes = [], {}
    for statistics in ("global", "device"):
        text = compiled_step(
            options.depth, options.batch_size, options.devices, statistics
        )
        found = collectives(text)
        sizes[statistics] = [c.bytes for c in found]
        large = max(sizes[statistics])
        rest = sum(sizes[statistics]) - large
        kinds = sorted({c.kind for c in found})
        rows.append(
            [
                statistics,
                f"{len(found)} ({', '.join(kinds)})",
                f"{sum(sizes[statistics]):,}",
                f"{large:,}",
                f"{rest:,}",
            ]
        )
    columns = ["mesh.batch_norm", "collectives", "bytes", "largest", "the others"]
    print("\n" + table(columns, rows) + "\n")
    print(_estimate(sizes, options.batch_size, options.ms_per_step))


# Assumed of a device: NVLink 4 in a node of eight, 400 Gbit/s between nodes; and the
# latency of a small message.
IN_NODE = (450e9, 3e-6)
BETWEEN_NODES = (50e9, 6e-6)


def _estimate(sizes: dict[str, list[int]], batch: int, steps: list[float]) -> str:
    rows = []
    for milliseconds in steps:
        for devices in (1, 8, 64):
            bandwidth, latency = IN_NODE if devices <= 8 else BETWEEN_NODES
            cells = [f"{milliseconds:g}", str(devices)]
            for statistics in ("global", "device"):
                spoken = sum(
                    seconds_of_an_all_reduce(
                        size, devices, bandwidth=bandwidth, latency=latency
                    )
                    for size in sizes[statistics]
                )
                for same_batch in (True, False):
                    work = milliseconds / 1e3 / (devices if same_batch else 1)
                    images = batch * (1 if same_batch else devices)
                    rate = images / (work + spoken)
                    cells.append(f"{rate * milliseconds / 1e3 / batch:.1f}")
            rows.append(cells)
    columns = [
        "ms/step on one",
        "devices",
        "global statistics, batch shared",
        "batch for each",
        "device statistics, batch shared",
        "batch for each",
    ]
    return (
        "Times the rate of one device, by estimate: nothing overlaps, "
        f"{IN_NODE[0] / 1e9:.0f} GB/s and {1e6 * IN_NODE[1]:.0f} us a message in a "
        f"node of 8, {BETWEEN_NODES[0] / 1e9:.0f} GB/s and "
        f"{1e6 * BETWEEN_NODES[1]:.0f} us between nodes\n\n" + table(columns, rows)
    )


if __name__ == "__main__":
    main()
