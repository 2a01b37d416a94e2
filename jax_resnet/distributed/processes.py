"""The processes of a run, one or several, and what they agree on.

Several processes run the same program, each on devices of its own; JAX connects them
(``jax.distributed``). They save together; the first one alone reports. What steers the
loop is agreed on, because a step is taken by all or by none.
"""

import contextlib
import functools
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jax_resnet.distributed import device
from jax_resnet.distributed.mesh import REPLICATED, DeviceMesh, split_along
from jax_resnet.runtime.errors import UserError

# A process that gives no sign of life for so long is taken for dead.
HEARTBEAT_SECONDS = 30
_TEXT_BYTES = 4096
_SECONDS_TO_LEAVE = 1.0
# What errors of collectives and of the coordination service have in their texts.
_LOSS = (
    "Gloo",
    "NCCL",
    "Connection",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "Barrier",
    "coordination service",
)


class LostProcessError(UserError):
    """Another process of the run has gone; the same command goes on with it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h, as when the time is up


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    Attributes:
        count: how many there are.
        index: of this one.
    """

    count: int = 1
    index: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this one holds the workdir, and reports."""
        return self.index == 0

    def leave(self) -> None:
        """Lets the others go first: JAX ends those whose first process has gone."""
        if self.count > 1 and self.is_first:
            time.sleep(_SECONDS_TO_LEAVE)

    @contextlib.contextmanager
    def united(self) -> Iterator[dict[str, Any]]:
        """A block that succeeds in every process, or fails in each.

        What the block puts into the dictionary that it is given has to be the same
        in all of them; it is JSON.

        Raises:
            UserError: what another process raised, by its name.
        """
        facts: dict[str, Any] = {}
        failure: UserError | None = None
        try:
            yield facts
        except UserError as error:
            failure = error
        if self.count > 1:
            self._compare(facts, failure)
        if failure is not None:
            raise failure

    def _compare(self, facts: dict[str, Any], failure: UserError | None) -> None:
        said = {"host": socket.gethostname(), "facts": facts, "error": None}
        if failure is not None:
            said["error"] = str(failure)[:400]
        text = json.dumps(said, sort_keys=True).encode()[:_TEXT_BYTES]
        with self.lost_explained():
            texts = multihost_utils.process_allgather(
                np.frombuffer(text.ljust(_TEXT_BYTES), np.uint8)
            )
        everyone = [json.loads(row.tobytes()) for row in texts]
        if failure is not None:
            return
        for index, other in enumerate(everyone):
            where = f"process {index} on {other['host']}"
            if other["error"]:
                raise UserError(f"{where}: {other['error']}")
            for name in facts:
                if other["facts"][name] != everyone[0]["facts"][name]:
                    raise UserError(
                        f"{where} has another {name} than process 0: all need the "
                        "same command, config, data and workdir"
                    )

    def vote(self, devices: DeviceMesh, stop: bool, seconds_per_step: float) -> Any:
        """The greatest values of all processes, once all have voted.

        Args:
            devices: of the run.
            stop: whether this process wants to.
            seconds_per_step: that it has measured.

        Returns:
            ``[stop, seconds_per_step]``, on the devices if there are several
            processes, so that it is read when the calls queued before are done.
        """
        votes = np.array([[stop, seconds_per_step]], np.float32)
        if self.count == 1:
            return votes[0]
        table = jax.make_array_from_callback(
            (devices.count, 2), devices.sharding(split_along(0)), lambda _: votes
        )
        return _greatest(devices)(table)

    def is_loss(self, error: BaseException | None) -> bool:
        """Whether an error says that another process has gone."""
        if self.count == 1 or error is None:
            return False
        return isinstance(error, LostProcessError) or any(
            sign in str(error) for sign in _LOSS
        )

    @contextlib.contextmanager
    def lost_explained(self) -> Iterator[None]:
        """Turns what JAX raises when another process has gone into one line."""
        try:
            yield
        # JAX raises it as several types, and a save that fails says it in its words.
        except (jax.errors.JaxRuntimeError, RuntimeError, ValueError) as error:
            if not self.is_loss(error):
                raise
            raise LostProcessError(
                f"another process of the run has gone, or cannot be reached "
                f"({_brief(error)}); the same command carries on from the last "
                "checkpoint"
            ) from error


def join(
    kind: str,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Processes:
    """Connects the processes of a run; call before JAX is asked for devices.

    Args:
        kind: of the devices, as :func:`jax_resnet.distributed.device.select` takes it.
        coordinator: address of the first process, ``HOST:PORT``. None leaves all
            three to JAX, which finds them in what SLURM, Open MPI or Kubernetes set.
        num_processes: of the run.
        process_id: from 0.

    Raises:
        UserError: if they cannot be found, or cannot be reached.
    """
    # Signals are ours to answer, see :mod:`jax_resnet.runtime.signals`.
    jax.config.update("jax_enable_preemption_service", False)
    # A process that is lost ends the run by an error, not by the end of the others.
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            initialization_timeout=120,
        )
    # JAX raises what parsing an address raises.
    except (ValueError, RuntimeError, TypeError, IndexError) as error:
        raise UserError(
            f"the processes of the run cannot be connected: {_brief(error)}; use "
            "--distributed where SLURM, Open MPI or Kubernetes started them, and "
            "elsewhere --coordinator HOST:PORT --num-processes N --process-id I"
        ) from error
    device.select(kind)
    return Processes(jax.process_count(), jax.process_index())


@functools.cache
def _greatest(devices: DeviceMesh) -> Any:
    return jax.jit(
        lambda table: table.max(axis=0), out_shardings=devices.sharding(REPLICATED)
    )


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
