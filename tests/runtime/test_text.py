import contextlib
import io

import pytest

from jax_resnet.runtime.text import printable, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ü 日本 $x$ \\n 🦊", "ü 日本 $x$ \\n 🦊"),
        ("a\nb\tc\0", r"a\nb\tc\x00"),
        ("\x1b[31mred\x9b", r"\x1b[31mred\x9b"),
        ("\u202egnp.exe", r"\u202egnp.exe"),  # right to left
        ("👩\u200d👧 न\u200cन", "👩\u200d👧 न\u200cन"),
        ("gr\udcc3\udcbcn", "grün"),  # UTF-8 in a path, where the locale is ASCII
        ("\udcff \ud800", r"\xff \ud800"),
    ],
)
def test_what_cannot_be_seen_is_escaped(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [("ascii", rb"\xfc \u65e5"), ("latin-1", b"\xfc \\u65e5"), ("utf-8", None)],
)
def test_lines_are_printed_in_any_encoding(encoding, printed):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    with contextlib.redirect_stdout(stream):
        say("ü 日")
    assert stream.buffer.getvalue() == (printed or "ü 日".encode()) + b"\n"
