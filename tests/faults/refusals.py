"""What hostile input has in common, and what is demanded of those who read it."""

import contextlib
import io
import time
import warnings

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from jax_resnet.runtime.errors import UserError

SECONDS = 20  # far above what any input takes, on a busy machine


def examples(number):
    """Settings of hypothesis: as many, and the same each time."""
    return settings(
        max_examples=number,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # shrinking would be counted as faults
        suppress_health_check=list(HealthCheck),
    )


def refused(call, *arguments):
    """What a call returns, or None if it refuses in one line; silent and quick."""
    started = time.monotonic()
    printed = io.StringIO()
    with (
        warnings.catch_warnings(record=True) as warned,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        warnings.simplefilter("always")
        try:
            result = call(*arguments)
        except UserError as error:
            result = None
            assert len(str(error).splitlines()) == 1, repr(str(error))
            assert len(str(error)) < 1000 + 2 * len(repr(arguments))
    assert printed.getvalue() == ""
    assert not warned
    assert time.monotonic() - started < SECONDS
    return result


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([2**31, 2**63, -(10**400), "x" * 10_000, "\ud800"])
)


def spliced(content, cuts):
    """With some bytes taken out and others put in."""
    for start, length, new in cuts:
        start %= len(content) + 1
        content = content[:start] + new + content[start + length :]
    return content


CUTS = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 50), st.binary(max_size=9)),
    min_size=1,
    max_size=4,
)
BYTES = st.sampled_from(
    [b"", b"{}", b"null", b"NaN", b"\xff\xfe{", b"\x80\x04.", b"[" * 10**5, b"9" * 5000]
)
