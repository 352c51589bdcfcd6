"""Output on terminals, in notebooks and in files: what a stream can show, and texts wrapped or quoted for it."""

from __future__ import annotations

import builtins
import html
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # Rich is imported when something is drawn, not for --help
    from rich.console import Console

FILE_WIDTH: Final = 100
"""Width in characters of what is written to a file or a pipe."""
_UNPRINTED: Final = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
_ARGUMENTS: Final = (
    r"[\w./@+~]+=(?:'[^']*'|[^\s'])*",  # a key with its value
    r"'[^']*'",
    r"--(?:trust|config-dir) \S+",
    r"--?[a-z][\w-]*(?:=\S+)?",
    r"[\da-f]{8}[\w-]*",  # the id of a run or a sweep
)
_COMMAND: Final = re.compile(rf"lesion-exp (?:(?:sweep|bundle) )?[a-z][a-z-]*(?: (?:{'|'.join(_ARGUMENTS)}))*")
"""A command of this program within a text."""
_KEPT_SPACE: Final = "\ue000"
"""Stands for a space at which a line is not broken."""


def in_notebook() -> bool:
    """Returns whether the code runs in a notebook of Jupyter, Colab or Databricks. IPython in a terminal does not
    count.
    """
    get_ipython = getattr(builtins, "get_ipython", None)
    shell = get_ipython() if callable(get_ipython) else None
    if shell is None:
        return False
    kind = type(shell)
    hosted = "google.colab" in kind.__module__ or bool(os.environ.get("DATABRICKS_RUNTIME_VERSION"))
    return hosted or kind.__name__ == "ZMQInteractiveShell"


class NotebookOutput:
    """HTML below the running cell of a notebook that can be replaced later. It needs no widgets."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, content: str) -> None:
        """Replaces the HTML by `content`."""
        from IPython.display import HTML, display  # installed wherever a notebook runs

        if self._handle is None:
            self._handle = display(HTML(content), display_id=True)
        else:
            self._handle.update(HTML(content))


def progress_bar(text: str, done: int, total: int | None) -> str:
    """Returns a progress bar as HTML, with `text` beside it; without `total` it only shows that something happens."""
    length = "" if total is None else f' value="{done}" max="{max(total, 1)}"'
    return (
        f'<div role="status" style="font-family:monospace"><progress{length} style="width:16em;vertical-align:middle">'
        f"</progress> {html.escape(text)}</div>"
    )


def message_stream() -> IO[str]:
    """Returns the stream for messages: standard error, or in a notebook standard output, since errors are red there."""
    return sys.stdout if in_notebook() else sys.stderr


def is_terminal(stream: IO[str]) -> bool:
    """Returns whether `stream` is a terminal on which lines can be redrawn.

    Variables such as FORCE_COLOR do not count, so that a log file never contains control characters.
    """
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width_of(stream: IO[str]) -> int | None:
    """Returns the width of the terminal behind `stream` in characters, or the value of COLUMNS; else None."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return shutil.get_terminal_size((80, 24)).columns


def console(stream: IO[str]) -> Console:
    """Returns a Rich console on `stream`, with the settings that all output shares."""
    from rich.console import Console

    on_terminal = is_terminal(stream)
    width = width_of(stream) or FILE_WIDTH
    return Console(
        file=stream,
        width=width,
        highlight=False,
        force_terminal=on_terminal,
        force_jupyter=False,
        no_color=None if on_terminal else True,
    )


def wrapped_for(text: str, stream: IO[str]) -> str:
    """Wraps `text` to the width of the terminal behind `stream`. Text for a file or a pipe is returned unchanged.

    For files COLUMNS is ignored, because readline sets it for the children of every program that imports it.
    """
    return wrapped(text, width_of(stream) if stream.isatty() else None)


def wrapped(text: str, width: int | None) -> str:
    """Breaks the lines of `text` that are longer than `width` between words; None returns it unchanged.

    Continuation lines are indented by two further characters. A word longer than a line, such as a path, is not broken,
    nor is a command of this program: copied from the terminal it is one line.
    """
    if width is None:
        return text
    return "\n".join(_broken(line, width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = " " * min(len(line) - len(line.lstrip()) + 2, width // 2)
    kept = _COMMAND.sub(lambda found: found[0].replace(" ", _KEPT_SPACE), line)
    return textwrap.fill(
        kept,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    ).replace(_KEPT_SPACE, " ")


def say(text: str, stream: IO[str] | None = None, end: str = "\n") -> None:
    """Prints `text`, wrapped for the terminal, on `stream` (standard output by default)."""
    stream = sys.stdout if stream is None else stream
    print(wrapped_for(text, stream), file=stream, end=end, flush=True)


def shell_words(words: Iterable[str]) -> str:
    """Returns the words on one line, each quoted for a shell where necessary."""
    return " ".join(map(_word, words))


def shell_line(text: str) -> str:
    """Returns `text` unchanged if it is one line of printable characters, else quoted as one word of a shell."""
    return _word(text) if _UNPRINTED.search(text) else text


def _word(text: str) -> str:
    if not _UNPRINTED.search(text):
        return shlex.quote(text)
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _UNPRINTED.sub(lambda found: _escape(found[0]), plain) + "'"


def _escape(character: str) -> str:
    """Returns the escape sequence of a character within `$'...'`, which bash and zsh read."""
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a name that is no UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}"
