"""A command as a person can type it, whatever its words hold."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import Final

_UNPRINTED: Final = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")


def shell_words(words: Iterable[str]) -> str:
    """The words on one line, quoted for a shell where that is needed."""
    return " ".join(map(_word, words))


def shell_line(text: str) -> str:
    """`text` as it is, unless it would not be one line: then as a word of a shell."""
    return _word(text) if _UNPRINTED.search(text) else text


def _word(text: str) -> str:
    if not _UNPRINTED.search(text):
        return shlex.quote(text)
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _UNPRINTED.sub(lambda found: _escape(found[0]), plain) + "'"


def _escape(character: str) -> str:
    """In the form that bash and zsh read back."""
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a name that is no UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}"
