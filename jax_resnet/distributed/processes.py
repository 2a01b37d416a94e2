"""The processes that train together, and how they agree.

Each process runs the same program on its own devices; JAX connects them
(``jax.distributed``). They save together, and only the first reports. They agree on
whatever steers the loop, because a step is taken by all or by none.
"""

import contextlib
import json
import re
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

_MESSAGE_BYTES = 4096
# Parts of the messages of collectives and of the coordination service.
_SIGNS_OF_LOSS = re.compile(
    "Gloo|NCCL|Connection|UNAVAILABLE|DEADLINE_EXCEEDED|Barrier|coordination service"
)


class LostProcessError(UserError):
    """Another process is lost; the same command resumes the run."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h, as when the time is up


@dataclass(frozen=True)
class Processes:
    """The processes that train together, seen from one of them."""

    count: int = 1  # number of processes
    index: int = 0  # index of this one

    @property
    def is_first(self) -> bool:
        """Whether this process holds the workdir, and reports."""
        return self.index == 0

    def exit_last(self) -> None:
        """Waits in the first process, because JAX ends the others when it exits."""
        if self.count > 1 and self.is_first:
            time.sleep(1)

    @contextlib.contextmanager
    def all_or_none(self) -> Iterator[dict[str, Any]]:
        """Runs a block that succeeds in all processes or fails in all.

        The block gets a dictionary. What it puts there, JSON by name, must be the same
        in all processes. Raises UserError with what the block raised in any process, or
        the name of an item that differs.
        """
        must_match: dict[str, Any] = {}
        failure: UserError | None = None
        try:
            yield must_match
        except UserError as error:
            failure = error
        reason = str(failure)[:400] if failure else None
        message = {"host": socket.gethostname(), "error": reason, "items": must_match}
        messages = self._gather(message)
        if failure is not None:
            raise failure
        for index, other in enumerate(messages):
            where = f"process {index} on {other['host']}"
            if other["error"]:
                raise UserError(f"{where}: {other['error']}")
            for name, item in messages[0]["items"].items():
                if other["items"][name] != item:
                    raise UserError(
                        f"{where} has another {name} than process 0: all need the "
                        "same command, config, data and workdir"
                    )

    def _gather(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """Returns the messages of all processes."""
        if self.count == 1:
            return [message]
        text = json.dumps(message).encode().ljust(_MESSAGE_BYTES)
        with self.detect_lost_process():
            texts = multihost_utils.process_allgather(np.frombuffer(text, np.uint8))
        return [json.loads(row.tobytes()) for row in texts]

    def vote(self, devices: DeviceMesh, stop: bool, seconds_per_step: float) -> Any:
        """Takes the maximum over all processes, once all have voted.

        Returns ``[stop, seconds_per_step]``, float32. With several processes it is on
        the devices, ready when the calls queued before it are done.
        """
        votes = np.array([[stop, seconds_per_step]], np.float32)
        if self.count == 1:
            return votes[0]
        table = jax.make_array_from_callback(
            (devices.count, 2), devices.sharding(split_along(0)), lambda _: votes
        )
        whole = devices.sharding(REPLICATED)
        return jax.jit(_maximum, out_shardings=whole)(table)

    def is_lost_process(self, error: BaseException | None) -> bool:
        """Returns whether an error means that another process is lost."""
        return self.count > 1 and (
            isinstance(error, LostProcessError)
            or _SIGNS_OF_LOSS.search(str(error)) is not None
        )

    @contextlib.contextmanager
    def detect_lost_process(self) -> Iterator[None]:
        """Raises a :class:`LostProcessError` for what JAX raises in that case."""
        try:
            yield
        # JAX raises several types, and a save that fails wraps the message.
        except (jax.errors.JaxRuntimeError, RuntimeError, ValueError) as error:
            if not self.is_lost_process(error):
                raise
            raise LostProcessError(
                f"another process has gone, or cannot be reached ({_one_line(error)}); "
                "the same command resumes from the last checkpoint"
            ) from error


def join(
    kind: str,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Processes:
    """Connects the processes; call it before JAX looks for devices.

    The coordinator is the address of the first process, ``HOST:PORT``. With None, JAX
    finds all three in the environment that SLURM, Open MPI or Kubernetes set. Raises
    :class:`UserError` if they cannot be found or reached.
    """
    # :mod:`jax_resnet.runtime.signals` handles signals.
    jax.config.update("jax_enable_preemption_service", False)
    # A lost process becomes an error here, and does not end this process.
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=30,  # a process silent for longer is lost
            initialization_timeout=120,
        )
    # JAX reads the variables of several clusters, and lets any error through.
    except Exception as error:
        raise UserError(
            f"the processes cannot be connected: {_one_line(error)}; use "
            "--distributed where SLURM, Open MPI or Kubernetes started them, and "
            "elsewhere --coordinator HOST:PORT --num-processes N --process-id I"
        ) from error
    device.select(kind)
    return Processes(jax.process_count(), jax.process_index())


def _maximum(table: jax.Array) -> jax.Array:
    return table.max(axis=0)


def _one_line(error: BaseException) -> str:
    missing = "no variable " if isinstance(error, KeyError) else ""
    return missing + " ".join(str(error).split())[:200]
