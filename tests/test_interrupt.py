import os
import signal
import time

import pytest

from jax_resnet.interrupt import Interrupt


@pytest.fixture
def hangup():
    """Sets what SIGHUP does, until the test ends."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda handler: signal.signal(signal.SIGHUP, handler)
    signal.signal(signal.SIGHUP, before)


def test_a_signal_is_noted(hangup, capfd):
    hangup(signal.SIG_DFL)
    with Interrupt() as interrupt:
        interrupt.begin()
        assert interrupt.signal == 0
        os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.signal == signal.SIGHUP
        assert interrupt.exit_code == 129
        text, started = "", time.monotonic()
        while not text and time.monotonic() - started < 10:
            text = capfd.readouterr().err
    assert text.strip() == "SIGHUP: saving and stopping"
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_nohup_is_respected(hangup):
    hangup(signal.SIG_IGN)
    with Interrupt() as interrupt:
        interrupt.begin()
        os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.signal == 0
