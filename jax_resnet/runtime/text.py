"""Text from data, configs and paths, as it is shown to people."""

import re
import sys
import unicodedata

# Of a path in bytes that the locale's encoding cannot decode.
_UNDECODED = re.compile("[\udc80-\udcff]+")
# Control characters, marks that are not seen but may turn the direction of writing,
# halves of characters, and line breaks.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # hidden, and part of words and emoji


def printable(text: str) -> str:
    """Returns a text as one line of characters that are seen.

    The others, such as line breaks and the escape sequences of terminals, are written
    with a backslash, as ``repr`` does.
    """
    text = _UNDECODED.sub(_decoded, text)
    return text if text.isprintable() else "".join(map(_seen, text))


def say(line: str) -> None:
    """Prints a line, with a backslash for what standard output cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    encoded = printable(line).encode(encoding, "backslashreplace")
    print(encoded.decode(encoding), flush=True)


def utf8_hint() -> str:
    """Says how names in UTF-8 are read where the locale has another encoding."""
    is_utf8 = sys.getfilesystemencoding() == "utf-8"
    return "" if is_utf8 else " (PYTHONUTF8=1 reads it as UTF-8)"


def _decoded(undecoded: re.Match[str]) -> str:
    encoded = undecoded[0].encode("utf-8", "surrogateescape")
    return encoded.decode("utf-8", "backslashreplace")


def _seen(character: str) -> str:
    if unicodedata.category(character) in _HIDDEN and character not in _JOINERS:
        return character.encode("unicode_escape").decode()
    return character
