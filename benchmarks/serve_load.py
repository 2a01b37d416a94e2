"""Drives the demo with many clients over loopback: ``python benchmarks/serve_load.py``.

The same page and API serve the model as this project computes it, as ONNX Runtime and
as PyTorch do, each in a process of its own. They are driven in turns, so that what
else the machine does meets all of them; who has no turn stands still.
"""

import argparse
import asyncio
import base64
import io
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from tables import heading, table

from jax_resnet.checkpoint.history import installed_versions
from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError

CALL = "/gradio_api/call/predict"
VARIANTS = ("ours", "onnx", "torch")
PARTS = 5  # of the requests: turns, after each of which the memory is read


@dataclass
class Load:
    """What the clients saw.

    Attributes:
        latencies: seconds of each request that was answered.
        refused: requests that got HTTP 503.
        failed: requests that got anything else.
        seconds: from the first request to the last answer, in all turns.
    """

    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    failed: int = 0
    seconds: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = Parser(
        prog="python benchmarks/serve_load.py",
        description="Measures the demo under load, beside other computations of it.",
    )
    parser.add_argument("--model", required=True, help="a run directory or a folder")
    parser.add_argument("--clients", type=int, default=32, help="at a time")
    parser.add_argument("--requests", type=int, default=500, help="in all")
    parser.add_argument("--burst", type=int, default=500, help="requests sent at once")
    parser.add_argument("--max-queue", type=int, default=200, help="of the demo")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    options = parser.parse_args(arguments)
    if min(options.clients, options.burst) < 1 or options.requests < PARTS:
        raise UserError(
            f"--clients and --burst must be at least 1, --requests at least {PARTS}"
        )
    load_before = os.getloadavg()[0]
    rows = _measure(options)
    versions = {**installed_versions(), "gradio": metadata.version("gradio")}
    for name in options.variants:
        if name != "ours":
            package = "onnxruntime" if name == "onnx" else name
            versions[package] = metadata.version(package)
    work = [
        f"Work: {options.requests:,} requests by {options.clients} clients, after one "
        f"client alone with {_alone(options)}; a burst: {options.burst} at once, of "
        f"which {options.max_queue} can wait",
        "An image of 320x240 pixels as a data URL; milliseconds from the request to "
        "the whole answer",
    ]
    print(
        heading("serve_load.py", arguments, work, load=load_before, versions=versions)
    )
    columns = [
        "model",
        "start to first answer, nothing cached, s",
        "cached, s",
        "model alone, p50",
        "one client, p50",
        "p50",
        "p95",
        "p99",
        "requests/s",
        "burst: answered, 503, failed",
        "memory after each fifth of the requests, MiB",
        "most, MiB",
    ]
    print("\n" + table(columns, rows))
    return 0


def _measure(options: argparse.Namespace) -> list[list[str]]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        servers, rows = [], []
        for name in options.variants:
            cache = f"{folder}/{name}"
            with _server(name, options, cache) as server:
                uncached = server.first_answer()
            (seconds, _) = _variant(cache, "time", name, options.model).communicate()
            server = stack.enter_context(_server(name, options, cache))
            starts = f"{uncached:.1f}", f"{server.first_answer():.1f}"
            servers.append(server)
            rows.append([name, *starts, f"{1000 * float(seconds):.1f}"])
        for server in servers:
            server.drive(server.alone, 1, _alone(options))
        for _ in range(PARTS):
            for server in servers:
                requests = options.requests // PARTS
                server.drive(server.load, options.clients, requests)
                server.memory.append(server.mebibytes("VmRSS"))
        for server in servers:
            _check(server.load)
            server.drive(server.burst, options.burst, options.burst)
        return [row + server.row() for row, server in zip(rows, servers, strict=True)]


def _alone(options: argparse.Namespace) -> int:
    return max(10, options.requests // 5)


def _check(load: Load) -> None:
    if load.refused or load.failed:
        raise UserError(f"{load.refused} requests were refused, {load.failed} failed")


@dataclass
class _Server:
    process: subprocess.Popen[str]
    address: str
    started: float  # seconds from the start of the process until it listened
    alone: Load = field(default_factory=Load)
    load: Load = field(default_factory=Load)
    burst: Load = field(default_factory=Load)
    memory: list[float] = field(default_factory=list)

    def first_answer(self) -> float:
        self.drive(first := Load(), 1, 1)
        _check(first)
        return first.seconds + self.started

    def drive(self, load: Load, clients: int, requests: int) -> None:
        self.process.send_signal(signal.SIGCONT)
        asyncio.run(_drive(self.address, clients, requests, load))
        self.process.send_signal(signal.SIGSTOP)

    def mebibytes(self, field: str) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kilobytes = re.search(rf"{field}:\s+(\d+) kB", status)
        assert kilobytes
        return float(kilobytes[1]) / 1024

    def row(self) -> list[str]:
        p50, p95, p99 = np.percentile(self.load.latencies, [50, 95, 99])
        return [
            f"{1000 * statistics.median(self.alone.latencies):.1f}",
            *(f"{1000 * p:.0f}" for p in (p50, p95, p99)),
            f"{len(self.load.latencies) / self.load.seconds:.0f}",
            f"{len(self.burst.latencies)}, {self.burst.refused}, {self.burst.failed}",
            ", ".join(f"{mebibytes:,.0f}" for mebibytes in self.memory),
            f"{self.mebibytes('VmHWM'):,.0f}",
        ]


def _variant(cache: str, *arguments: str) -> subprocess.Popen[str]:
    program = Path(__file__).with_name("serve_variant.py")
    command = [sys.executable, str(program), *arguments]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@contextmanager
def _server(name: str, options: argparse.Namespace, cache: str) -> Iterator[_Server]:
    started = time.monotonic()
    process = _variant(
        cache,
        *("serve", name, "--model", options.model, "--device", "cpu", "--port", "0"),
        *("--max-queue", str(options.max_queue)),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not (address := re.search(r"http://[^\s;]+", line)):
            raise UserError(f"the server of {name!r} did not start: see above")
        yield _Server(process, address[0], time.monotonic() - started)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait()


async def _drive(address: str, clients: int, requests: int, load: Load) -> None:
    picture = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((320, 240)).save(picture, "JPEG")
    url = "data:image/jpeg;base64," + base64.b64encode(picture.getvalue()).decode()
    body = {"data": [{"url": url}, "crop"]}
    left = iter(range(requests))
    # The server closes what is idle for five seconds.
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=clients, keepalive_expiry=2
    )
    async with httpx.AsyncClient(
        base_url=address, timeout=120, limits=limits
    ) as session:

        async def client() -> None:
            for _ in left:
                begun = time.monotonic()
                joined = await session.post(CALL, json=body)
                if joined.status_code != 200:
                    load.refused += joined.status_code == 503
                    load.failed += joined.status_code != 503
                    continue
                answer = await session.get(f"{CALL}/{joined.json()['event_id']}")
                if "event: complete" in answer.text:
                    load.latencies.append(time.monotonic() - begun)
                else:
                    load.failed += 1

        begun = time.monotonic()
        await asyncio.gather(*(client() for _ in range(clients)))
        load.seconds += time.monotonic() - begun


if __name__ == "__main__":
    run(main)
