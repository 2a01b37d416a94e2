"""The ResNet's 3x3 convolutions and their gradients on a CPU, in JAX and in PyTorch.

    python benchmarks/convolutions.py

Shows why training on a CPU lags behind PyTorch, why the steps are not looped on the
device there, and what a weight gradient made of dot products gives instead.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tables
from jax import lax
from jaxtyping import Float32

from jax_resnet import device
from jax_resnet.command import Parser, run
from jax_resnet.errors import UserError
from jax_resnet.history import installed_versions

LAYERS = ((32, 16), (16, 32), (8, 64))  # side of the image, channels
OPERATIONS = ("forward", "gradient by the input", "gradient by the weights")
# Images [n, h, w, c], kernel [3, 3, c, c], and the output's gradient, as the images.
Operands = tuple[np.ndarray, np.ndarray, np.ndarray]
Program = Callable[[int], Any]  # computes so many times, and returns the last result


def random_operands(side: int, channels: int, batch_size: int) -> Operands:
    """Noise in the size of a layer, float32."""
    rng = np.random.default_rng(0)
    images = (batch_size, side, side, channels)
    kernel = (3, 3, channels, channels)
    x, w, dy = (rng.standard_normal(s, np.float32) for s in (images, kernel, images))
    return x, w, dy


def programs(operation: str, operands: Operands) -> Iterator[tuple[str, Program]]:
    """The programs that compute an operation, each with its name.

    The last results are the output or the gradient of the images, [n, h, w, c]; or the
    gradient of the kernel, [3, 3, c, c].
    """
    x, w, dy = (jnp.asarray(operand) for operand in operands)

    def by_input(dy: jax.Array, w: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda x: _convolve(x, w), x)(dy)[0]

    def by_weights(x: jax.Array, dy: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda w: _convolve(x, w), w)(dy)[0]

    function, a, b = {
        "forward": (_convolve, x, w),
        "gradient by the input": (by_input, dy, w),
        "gradient by the weights": (by_weights, x, dy),
    }[operation]
    yield "jax", _dispatched(function, a, b)
    yield "jax, in a loop on the device", _looped(function, a, b)
    if operation == "gradient by the weights":
        yield "jax, nine slices and dots", _dispatched(nine_dots, a, b)
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return
    yield f"PyTorch {torch.__version__}, channels_last", _torch(operation, operands)


def nine_dots(
    x: Float32[jax.Array, "n h w c"], dy: Float32[jax.Array, "n h w c"]
) -> Float32[jax.Array, "3 3 c c"]:
    """The gradient of a 3x3 kernel: for each of its pixels a product of matrices."""
    _, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    dots = [
        jnp.einsum(
            "nhwi,nhwo->io", padded[:, row : row + height, column : column + width], dy
        )
        for row in range(3)
        for column in range(3)
    ]
    return jnp.stack(dots).reshape(3, 3, channels, channels)


def _convolve(x: jax.Array, w: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _dispatched(function: Callable, a: jax.Array, b: jax.Array) -> Program:
    compiled = jax.jit(function).lower(a, b).compile()

    def program(calls: int) -> jax.Array:
        for _ in range(calls):
            # Else several would run at once.
            result = compiled(a, b).block_until_ready()
        return result

    return program


def _looped(function: Callable, a: jax.Array, b: jax.Array) -> Program:
    def loop(calls: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        def body(_: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            a, last = carry
            # What does not change would be computed once, before the loop.
            a = a.at[0, 0, 0, 0].add(1e-20 * last[0, 0, 0, 0])
            return a, function(a, b)

        shape = jax.eval_shape(function, a, b)
        zeros = jnp.zeros(shape.shape, shape.dtype)
        return lax.fori_loop(0, calls, body, (a, zeros))[1]

    compiled = jax.jit(loop).lower(jnp.int32(0), a, b).compile()
    return lambda calls: compiled(jnp.int32(calls), a, b).block_until_ready()


def _torch(operation: str, operands: Operands) -> Program:
    import torch

    x, w, dy = (torch.from_numpy(operand) for operand in operands)
    # NHWC in memory is what channels_last means.
    x, dy = x.permute(0, 3, 1, 2), dy.permute(0, 3, 1, 2)
    w = w.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    by_input = operation == "gradient by the input"

    def compute() -> Any:
        if operation == "forward":
            return torch.conv2d(x, w, padding=1)
        return torch.ops.aten.convolution_backward(
            *(dy, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
            [by_input, not by_input, False],
        )[0 if by_input else 1]

    def program(calls: int) -> Any:
        for _ in range(calls):
            result = compute()
        axes = (2, 3, 1, 0) if operation == "gradient by the weights" else (0, 2, 3, 1)
        return result.permute(axes)

    return program


def measure(operands: Operands, calls: int, rounds: int) -> dict[str, dict[str, str]]:
    """Milliseconds by program and operation: median (least to greatest) of rounds."""
    cells: dict[str, dict[str, str]] = {}
    for operation in OPERATIONS:
        candidates = dict(programs(operation, operands))
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(rounds):
            for name, program in candidates.items():
                program(1)  # Caches and the threads of the one before settle.
                started = time.perf_counter()
                program(calls)
                seconds = time.perf_counter() - started
                times[name].append(1e3 * seconds / calls)
        for name, milliseconds in times.items():
            cells.setdefault(name, {})[operation] = tables.spread(milliseconds, 1)
    return cells


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(arguments)
    device.select("cpu")
    load = os.getloadavg()[0]
    busy = tables.warn_if_busy(load)
    rows = []
    for side, channels in LAYERS:
        layer = f"{channels} at {side}x{side}"
        print(layer, file=sys.stderr, flush=True)
        operands = random_operands(side, channels, chosen.batch_size)
        measured = measure(operands, chosen.calls, chosen.rounds)
        rows += [
            (layer, name, *(cells.get(operation, "") for operation in OPERATIONS))
            for name, cells in measured.items()
        ]
    work = (
        f"Work: 3x3 convolutions, stride 1, batch {chosen.batch_size}, float32; "
        "milliseconds of one",
        f"Median (least to greatest) of {chosen.rounds} rounds of {chosen.calls} "
        "calls, programs in turns; each round after an uncounted call",
    )
    print(
        tables.heading(
            "convolutions.py",
            arguments,
            work,
            load=load,
            versions=installed_versions(),
        )
    )
    print()
    print(tables.table(("channels", "program", *OPERATIONS), rows))
    if busy:
        print(f"\n- The machine was busy: {tables.BUSY}")
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python benchmarks/convolutions.py",
        description="Measures 3x3 convolutions and their gradients on this CPU.",
    )
    parser.add_argument("--batch-size", type=int, default=128, help="default 128")
    parser.add_argument("--calls", type=int, default=3, help="of a round; default 3")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    chosen = parser.parse_args(arguments)
    for name, value in vars(chosen).items():
        if value < 1:
            option = name.replace("_", "-")
            raise UserError(f"--{option} must be at least 1, not {value}")
    return chosen


if __name__ == "__main__":
    run(main)
