"""A step, compiled once and applied many times a call."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array

from jax_resnet.device import compiler_options, current
from jax_resnet.parallel import REPLICATED, Devices

# (step, count, carry) -> carry
Loop = Callable[[Callable[[Any], Any], Array, Any], Any]


def counted(step: Callable[[Any], Any], count: Array, carry: Any) -> Any:
    """Applies a step in a loop whose length is a call's choice."""
    return lax.fori_loop(0, count, lambda _, c: step(c), carry)


class Repeated:
    """A compiled step ``(carry, *constants) -> carry``, applied many times a call.

    The carry is donated. How a run is cut into calls cannot change its results: the
    same compiled step runs whatever the count.

    Args:
        step: the pure function.
        loop_on_device: one program loops on the device, which spares the host a
            dispatch per step. Otherwise the host dispatches each step, without
            waiting: XLA for CPU leaves its fast convolutions aside within loops
            (see the figures in ``benchmarks/README.md``).
        loop: how the device loops.
        devices: that compute together; None means the default one.
        layouts: of the constants on these devices. The carry is the same on all.
    """

    def __init__(
        self,
        step: Callable,
        *,
        loop_on_device: bool,
        loop: Loop = counted,
        devices: Devices | None = None,
        layouts: Sequence[PartitionSpec] = (),
    ):
        self._loop_on_device = loop_on_device
        self._devices = devices

        def looped(carry: Any, count: Array, *constants: Any) -> Any:
            return loop(lambda c: step(c, *constants), count, carry)

        function, before = (looped, 2) if loop_on_device else (step, 1)
        if devices is not None:
            function = devices.parallel(function, [REPLICATED] * before + [*layouts])
        self._call: Any = jax.jit(function, donate_argnums=0)

    def compile(self, carry: Any, *constants: Any) -> None:
        """Compiles ahead of the first call, for arguments of these shapes."""
        count = (np.int32(0),) if self._loop_on_device else ()
        lowered = self._call.lower(carry, *count, *constants)
        device = current() if self._devices is None else self._devices.first
        self._call = lowered.compile(compiler_options=compiler_options(device))

    def text(self) -> str:
        """The compiled step in HLO, after all optimisations."""
        return self._call.as_text()

    def memory(self) -> int:
        """Bytes that the compiled step takes on the device, its arguments included."""
        statistics = self._call.memory_analysis()
        # Of steps dispatched one by one, the next has its memory while one runs.
        at_once = 1 if self._loop_on_device else 2
        return (
            statistics.argument_size_in_bytes
            + at_once * statistics.temp_size_in_bytes
            + statistics.output_size_in_bytes
            - statistics.alias_size_in_bytes
        )

    def __call__(self, carry: Any, count: int, *constants: Any) -> Any:
        """Applies the step ``count`` times, and returns without waiting."""
        if self._loop_on_device:
            return self._call(carry, np.int32(count), *constants)
        for _ in range(count):
            carry = self._call(carry, *constants)
        return carry
