import os
import queue
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jax_resnet import IMPORTED
from jax_resnet.runtime.signals import RESERVED_SECONDS, CallInterrupt, Interrupt


@pytest.fixture
def hangup():
    """Sets the handler of SIGHUP until the test ends."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda handler: signal.signal(signal.SIGHUP, handler)
    signal.signal(signal.SIGHUP, before)


def test_the_first_signal_is_noted_and_the_second_exits(hangup, capfd, monkeypatch):
    codes = queue.SimpleQueue()
    monkeypatch.setattr(os, "_exit", codes.put)
    hangup(signal.SIG_DFL)
    with Interrupt() as interrupt, interrupt.working():
        assert not interrupt.is_due(1e9)
        os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.is_due(0.0)
        assert (interrupt.exit_code, interrupt.reason) == (129, "SIGHUP")
        text, started = "", time.monotonic()
        while not text and time.monotonic() - started < 10:
            text = capfd.readouterr().err
        assert text.strip() == "SIGHUP: saving and stopping"
        os.kill(os.getpid(), signal.SIGHUP)
        assert codes.get(timeout=10) == 129
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_nohup_is_respected(hangup):
    hangup(signal.SIG_IGN)
    with Interrupt() as interrupt, interrupt.working():
        os.kill(os.getpid(), signal.SIGHUP)
        assert not interrupt.is_due(0.0)


def test_a_signal_exits_when_there_is_nothing_to_save(hangup, monkeypatch):
    hangup(signal.SIG_DFL)
    codes = queue.SimpleQueue()
    monkeypatch.setattr(os, "_exit", codes.put)
    with Interrupt():
        os.kill(os.getpid(), signal.SIGHUP)
        assert codes.get(timeout=10) == 129


def test_a_call_notes_the_first_ctrl_c_while_it_works_and_no_other():
    with CallInterrupt() as interrupt:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with interrupt.working():
            signal.raise_signal(signal.SIGINT)
            assert (interrupt.is_due(0.0), interrupt.reason) == (True, "SIGINT")
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("kind", [Interrupt, CallInterrupt])
def test_other_threads_leave_signals_alone(kind):
    def enter():
        with kind() as interrupt, interrupt.working():
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(enter).result()
    assert found is signal.default_int_handler


def test_the_time_is_up_when_the_next_calls_would_not_end_in_time():
    used = time.monotonic() - IMPORTED
    interrupt = Interrupt(max_seconds=used + RESERVED_SECONDS + 60.0)
    assert not interrupt.is_due(50.0)
    assert interrupt.is_due(61.0)
    assert interrupt.exit_code == 75
