"""A step that is compiled once and applied many times a call."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array

from jax_resnet.distributed.device import CompilerOptions, compiler_options
from jax_resnet.distributed.mesh import REPLICATED, DeviceMesh
from jax_resnet.runtime.memory import is_out_of_memory

# (step, count, carry) -> carry
DeviceLoop = Callable[[Callable[[Any], Any], Array, Any], Any]
_log = logging.getLogger(__name__)
copy_arrays = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def device_loop(step: Callable[[Any], Any], count: Array, carry: Any) -> Any:
    """Applies a step ``count`` times, in a loop on the device."""
    return lax.fori_loop(0, count, lambda _, c: step(c), carry)


class MultiStep:
    """Compiles a step ``(carry, *constants) -> carry``, and applies it ``count`` times.

    The carry is donated, and whole on each device; the layouts are those of the
    constants. The same compiled step runs whatever the count, so that the way in which
    a run is cut into calls cannot change its results.

    ``loop`` loops within one program on the device, which spares the host a dispatch
    per step. None has the host dispatch each step, without waiting: within loops, XLA
    for CPU leaves its fast convolutions aside (``benchmarks/answered.md``).
    """

    def __init__(
        self,
        step: Callable,
        devices: DeviceMesh,
        layouts: Sequence[PartitionSpec],
        loop: DeviceLoop | None,
    ):
        self._devices = devices
        self._loop = loop

        def looped(carry: Any, count: Array, *constants: Any) -> Any:
            assert loop is not None
            return loop(lambda c: step(c, *constants), count, carry)

        function, before = (step, 1) if loop is None else (looped, 2)
        parallel = devices.parallel(function, [REPLICATED] * before + [*layouts])
        self._jitted: Any = jax.jit(parallel, donate_argnums=0)
        self._program: Any = self._jitted
        self._choices: list[CompilerOptions] = []
        self._lowered: Any = None  # until a program has run

    def lower(self, carry: Any, *constants: Any) -> Any:
        """Lowers the step for arguments of these shapes."""
        count = () if self._loop is None else (np.int32(0),)
        return self._jitted.lower(carry, *count, *constants)

    def compile(self, carry: Any, *constants: Any) -> None:
        """Compiles the step ahead of the first call, for arguments of these shapes."""
        self._lowered = self.lower(carry, *constants)
        alone = self._devices.count == 1
        self._choices = compiler_options(self._devices.first, alone=alone)
        self._program = None
        self._try_options(lambda: None)

    def _try_options(self, use: Callable[[], object]) -> None:
        """Uses the program; where that fails, one compiled with the next options."""
        while True:
            try:
                if self._program is None:
                    options = self._choices[0].values
                    self._program = self._lowered.compile(compiler_options=options)
                use()
                return
            except jax.errors.JaxRuntimeError as error:
                if len(self._choices) == 1 or is_out_of_memory(error):
                    raise
                failed, self._program = self._choices.pop(0), None
                _log.warning(
                    "warning: no %s here (%s); going on with %s",
                    failed.name,
                    " ".join(str(error).split())[:200],
                    self._choices[0].name,
                )

    def __call__(self, carry: Any, count: int, *constants: Any) -> Any:
        """Applies the step ``count`` times, and returns without waiting."""
        if self._loop is None:
            for _ in range(count):
                carry = self._program(carry, *constants)
            return carry
        if self._lowered is not None and len(self._choices) > 1:
            # A program may compile and fail to run, which would lose the carry.
            one = np.int32(1)
            self._try_options(
                lambda: jax.block_until_ready(
                    self._program(copy_arrays(carry), one, *constants)
                )
            )
        self._lowered = None
        return self._program(carry, np.int32(count), *constants)
