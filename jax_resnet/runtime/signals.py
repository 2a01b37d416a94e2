"""Stops a run on SIGTERM, SIGINT (Ctrl-C) or SIGHUP, or when its time is up.

:class:`Interrupt` is for commands, :class:`CallInterrupt` for calls of the library.
"""

import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from jax_resnet import IMPORTED
from jax_resnet.runtime.errors import UserError

# For the last save, the last report and the exit.
RESERVED_SECONDS = 10.0
OUT_OF_TIME = 75  # EX_TEMPFAIL of sysexits.h: try again
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupt:
    """Notes the first signal, so that the loop saves and stops; exits on the second.

    Outside of :meth:`working` there is nothing to save, and the first signal exits too.
    A thread receives the signals, because Python runs no signal handler while the main
    thread waits for a device or for the compiler. Entered in another thread than the
    main one, which alone may handle signals, it leaves them alone.

    Args:
        max_seconds: seconds from the start of the process in which the run must end;
            None for no limit. A run takes at least one step.
        started: the time from which they count, by ``time.monotonic``.

    Raises:
        UserError: if ``max_seconds`` is too short.
    """

    def __init__(
        self, max_seconds: float | None = None, started: float = IMPORTED
    ) -> None:
        self._signal = 0
        self._deadline = math.inf
        if max_seconds is not None:
            if not max_seconds > RESERVED_SECONDS:
                raise UserError(
                    f"--max-seconds must be more than {RESERVED_SECONDS:g}, which "
                    f"saving and exiting may take, not {max_seconds:g}"
                )
            self._deadline = started + max_seconds - RESERVED_SECONDS
        self._lock = threading.Lock()
        self._working_threads = 0
        self._is_second = False
        self._restored = contextlib.ExitStack()

    @property
    def exit_code(self) -> int:
        """The shell's code for the signal, such as 143; 75 without one."""
        return 128 + self._signal if self._signal else OUT_OF_TIME

    @property
    def reason(self) -> str:
        """The reason to stop, for people."""
        if self._signal:
            return signal.Signals(self._signal).name
        return "time limit" if math.isfinite(self._deadline) else "another process"

    def is_due(self, seconds: float) -> bool:
        """Returns whether a signal came, or the time is up ``seconds`` from now."""
        return self._signal != 0 or time.monotonic() + seconds > self._deadline

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Notes the first signal during the block; several threads may be in one."""
        with self._lock:
            self._working_threads += 1
        try:
            yield
        finally:
            with self._lock:
                self._working_threads -= 1

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._handle_signals()
        return self

    def _handle_signals(self) -> None:
        self._reader, writer = socket.socketpair()
        self._restored.enter_context(writer)
        writer.setblocking(False)
        wakeup_fd = signal.set_wakeup_fd(writer.fileno())
        self._restored.callback(signal.set_wakeup_fd, wakeup_fd)
        # Python wakes the thread only for signals that have a handler. An ignored
        # SIGHUP is nohup's doing, and stays ignored.
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                self._handle(number)
        threading.Thread(target=self._watch, daemon=True).start()

    def _handle(self, number: int) -> None:
        handler = signal.signal(number, self._note)
        self._restored.callback(signal.signal, number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        # Runs later than the thread, but also while an event loop in the main thread,
        # such as orbax's, has a wakeup descriptor of its own.
        self._signal = self._signal or number

    def _watch(self) -> None:
        while received := self._reader.recv(1):
            number = received[0]
            if number not in SIGNALS:
                continue
            if self._is_second or not self._working_threads:
                os._exit(128 + number)
            self._is_second = True
            self._signal = number
            name = signal.Signals(number).name
            print(f"\n{name}: saving and stopping", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        self._restored.close()


class CallInterrupt(Interrupt):
    """Notes the first Ctrl-C while there is something to save, and never exits.

    Any other Ctrl-C is the program's own, for which Python raises KeyboardInterrupt.
    Other signals are left alone.
    """

    def _handle_signals(self) -> None:
        self._before = signal.getsignal(signal.SIGINT)
        if callable(self._before):  # not ignored, as it is in the background of a shell
            self._handle(signal.SIGINT)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._working_threads and not self._signal:
            self._signal = number
        elif callable(self._before):
            self._before(number, frame)
