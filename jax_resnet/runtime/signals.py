"""Stopping a run on SIGTERM, SIGINT (Ctrl-C), SIGHUP, or when its time is up."""

import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType

from jax_resnet import IMPORTED
from jax_resnet.runtime.errors import UserError

# What the last save, the last report and the exit may take.
RESERVED_SECONDS = 10.0
OUT_OF_TIME = 75  # EX_TEMPFAIL of sysexits.h: try again
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupt:
    """Notes the first signal, for the loop to save and stop; leaves on the second.

    Outside of :meth:`working` there is nothing to save, and the first signal leaves
    too. A thread does the noticing, because Python runs no signal handler while the
    main thread waits for a device or for the compiler. To be entered in the main
    thread.

    Args:
        max_seconds: after the start of the process the run must have ended; None for
            ever. A start that takes longer than that still takes a step.

    Raises:
        UserError: if ``max_seconds``, the option of that name, is too short.
    """

    def __init__(self, max_seconds: float | None = None) -> None:
        self._signal = 0
        self._deadline = math.inf
        if max_seconds is not None:
            if not max_seconds > RESERVED_SECONDS:
                raise UserError(
                    f"--max-seconds must be more than {RESERVED_SECONDS:g}, which "
                    f"saving and leaving may take, not {max_seconds:g}"
                )
            self._deadline = IMPORTED + max_seconds - RESERVED_SECONDS
        self._lock = threading.Lock()
        self._at_work = 0  # threads
        self._noticed = False

    @property
    def exit_code(self) -> int:
        """What a shell calls a process that the signal ended, such as 143.

        75 if no signal came, but the time is up.
        """
        return 128 + self._signal if self._signal else OUT_OF_TIME

    @property
    def reason(self) -> str:
        """Why the run stops, in words."""
        if self._signal:
            return signal.Signals(self._signal).name
        return "time limit" if math.isfinite(self._deadline) else "another process"

    def is_due(self, seconds: float) -> bool:
        """Whether to stop now: a signal came, or ``seconds`` more are too many."""
        return self._signal != 0 or time.monotonic() + seconds > self._deadline

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """A block in which the first signal is noted instead of obeyed.

        Several threads may be in such blocks at once.
        """
        with self._lock:
            self._at_work += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work -= 1

    def __enter__(self) -> "Interrupt":
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno())
        # Python writes to the wakeup descriptor only for signals that it handles.
        self._before = {
            number: signal.signal(number, self._note)
            for number in SIGNALS
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
        }  # an ignored SIGHUP is nohup's doing
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def _note(self, number: int, _: FrameType | None) -> None:
        # Comes later than the thread, but also while an event loop in the main
        # thread, such as orbax's, has a wakeup descriptor of its own.
        self._signal = self._signal or number

    def _watch(self) -> None:
        while number := self._reader.recv(1):
            if number[0] not in SIGNALS:
                continue
            if self._noticed or not self._at_work:
                os._exit(128 + number[0])
            self._noticed = True
            self._signal = number[0]
            name = signal.Signals(self._signal).name
            print(f"\n{name}: saving and stopping", file=sys.stderr, flush=True)

    def __exit__(
        self,
        _: type[BaseException] | None,
        __: BaseException | None,
        ___: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._writer.close()
