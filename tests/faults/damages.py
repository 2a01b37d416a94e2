"""Damages to files, and how a program has to refuse them."""

import contextlib
import io
import time

from jax_resnet.runtime.errors import UserError

GARBAGE = [b"", b"{}", b"null", b"\xff\xfe{", b"\x80\x04.", b"[" * 10**5, b"9" * 5000]


def splice(content, generator):
    """Replaces some bytes in up to four places."""
    for _ in range(generator.randint(1, 4)):
        start = generator.randrange(len(content))
        new = generator.randbytes(generator.randint(0, 9))
        content = content[:start] + new + content[start + generator.randint(0, 50) :]
    return content


def flip_a_bit(path, generator):
    content = bytearray(path.read_bytes())
    bit = generator.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


DAMAGES = [
    lambda path, _: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    lambda path, _: path.write_bytes(b""),
    lambda path, _: path.unlink(),
    flip_a_bit,
    lambda path, generator: path.write_bytes(generator.randbytes(999)),
]


def damage(path, number, generator):
    """Cuts, empties, deletes or replaces a file, or flips a bit of it."""
    DAMAGES[number % len(DAMAGES)](path, generator)


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def refused(call, *arguments):
    """Returns the result of a call, or None if it refuses in one line."""
    started, printed = time.monotonic(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            result = call(*arguments)
        except UserError as error:
            result = None
            assert len(str(error).splitlines()) == 1, repr(str(error))
            assert len(str(error)) < 1000 + 2 * len(repr(arguments))
    assert printed.getvalue() == ""
    assert time.monotonic() - started < 20
    return result
