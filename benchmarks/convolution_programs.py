"""Programs that compute a 3x3 convolution or one of its gradients."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Shaped
from rounds import say

OPERATIONS = ("forward", "gradient by the input", "gradient by the weights")
# Images [n, h, w, c], kernel [3, 3, c, c], and the output's gradient, as the images.
Operands = tuple[np.ndarray, np.ndarray, np.ndarray]
# Computes so many times with each copy of the operands, and returns the last result.
Program = Callable[[int], Any]


def random_operands(side: int, channels: int, batch_size: int) -> Operands:
    """Noise in the size of a layer, float32."""
    rng = np.random.default_rng(0)
    images = (batch_size, side, side, channels)
    kernel = (3, 3, channels, channels)
    x, w, dy = (rng.standard_normal(s, np.float32) for s in (images, kernel, images))
    return x, w, dy


def programs(
    operation: str,
    operands: Operands,
    *,
    on_gpu: bool = False,
    dtype: str = "float32",
    copies: int = 1,
) -> Iterator[tuple[str, Program]]:
    """The programs that compute an operation, each with its name.

    The last results are the output or the gradient of the images, [n, h, w, c]; or the
    gradient of the kernel, [3, 3, c, c].

    Args:
        operation: in :data:`OPERATIONS`.
        operands: of it and the others.
        on_gpu: for PyTorch; JAX's default device is the other programs'.
        dtype: to compute in.
        copies: of the operands; a call computes with each.
    """
    x, w, dy = (jnp.asarray(operand, dtype) for operand in operands)

    def by_input(dy: jax.Array, w: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda x: _convolve(x, w), x)(dy)[0]

    def by_weights(x: jax.Array, dy: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda w: _convolve(x, w), w)(dy)[0]

    function, a, b = {
        "forward": (_convolve, x, w),
        "gradient by the input": (by_input, dy, w),
        "gradient by the weights": (by_weights, x, dy),
    }[operation]
    pairs = [(jnp.copy(a), jnp.copy(b)) for _ in range(copies)]
    yield "jax", _dispatched(function, pairs)
    yield "jax, in a loop on the device", _looped(function, pairs)
    if operation == "gradient by the weights":
        yield "jax, nine slices and dots", _dispatched(nine_dots, pairs)
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return
    if on_gpu and not torch.cuda.is_available():
        say("this PyTorch finds no GPU")
        return
    graph = ", a CUDA graph" * on_gpu
    name = f"PyTorch {torch.__version__}, channels_last{graph}"
    yield name, _torch(operation, operands, on_gpu, dtype, copies)


def nine_dots(
    x: Shaped[jax.Array, "n h w c"], dy: Shaped[jax.Array, "n h w c"]
) -> Shaped[jax.Array, "3 3 c c"]:
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


def _dispatched(function: Callable, pairs: Sequence[tuple]) -> Program:
    def all_of(pairs: Sequence[tuple]) -> list[jax.Array]:
        return [function(a, b) for a, b in pairs]

    compiled = jax.jit(all_of).lower(pairs).compile()

    def program(calls: int) -> jax.Array:
        for _ in range(calls):
            results = compiled(pairs)
            if len(pairs) == 1:
                # Else a CPU would have several in work at once.
                jax.block_until_ready(results)
        return jax.block_until_ready(results)[-1]

    return program


def _looped(function: Callable, pairs: Sequence[tuple]) -> Program:
    def loop(calls: jax.Array, pairs: Sequence[tuple]) -> jax.Array:
        def body(_: jax.Array, carry: Any) -> Any:
            count, pairs, _ = carry
            # What does not change would be computed once, before the loop: here it
            # could have changed with the count, for all that the compiler is told.
            count, pairs = lax.optimization_barrier((count, pairs))
            return count + 1, pairs, [function(a, b) for a, b in pairs]

        shapes = jax.eval_shape(lambda: [function(a, b) for a, b in pairs])
        zeros = [jnp.zeros(shape.shape, shape.dtype) for shape in shapes]
        return lax.fori_loop(0, calls, body, (jnp.int32(0), pairs, zeros))[2][-1]

    compiled = jax.jit(loop).lower(jnp.int32(0), pairs).compile()
    return lambda calls: compiled(jnp.int32(calls), pairs).block_until_ready()


def _torch(
    operation: str, operands: Operands, on_gpu: bool, dtype: str, copies: int
) -> Program:
    import torch

    torch.backends.cudnn.benchmark = True
    place = {"device": "cuda" if on_gpu else "cpu", "dtype": getattr(torch, dtype)}
    x, w, dy = (torch.from_numpy(operand).to(**place) for operand in operands)
    # NHWC in memory is what channels_last means.
    x, dy = x.permute(0, 3, 1, 2), dy.permute(0, 3, 1, 2)
    w = w.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    by_input = operation == "gradient by the input"
    sets = [(x.clone(), w.clone(), dy.clone()) for _ in range(copies)]

    def compute() -> Any:
        for x, w, dy in sets:
            if operation == "forward":
                result = torch.conv2d(x, w, padding=1)
                continue
            result = torch.ops.aten.convolution_backward(
                *(dy, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
                [by_input, not by_input, False],
            )[0 if by_input else 1]
        return result

    replay, synchronize = compute, torch.cuda.synchronize if on_gpu else lambda: None
    if on_gpu:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            compute()  # Algorithms are chosen, which a graph cannot hold.
        synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = compute()

        def replay() -> Any:
            graph.replay()
            return captured

    def program(calls: int) -> Any:
        for _ in range(calls):
            result = replay()
        synchronize()
        axes = (2, 3, 1, 0) if operation == "gradient by the weights" else (0, 2, 3, 1)
        return result.permute(axes)

    return program
