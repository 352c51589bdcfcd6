"""What standard output and standard error can show, and texts that fit their width without a cut word."""

from __future__ import annotations

import builtins
import html
import os
import shutil
import sys
import textwrap
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # Rich is imported when something is drawn, not for --help
    from rich.console import Console


def in_notebook() -> bool:
    """Whether the code runs in a cell of Jupyter, Colab or Databricks; a terminal with IPython is none."""
    get_ipython = getattr(builtins, "get_ipython", None)
    shell = get_ipython() if callable(get_ipython) else None
    if shell is None:
        return False
    kind = type(shell)
    hosted = "google.colab" in kind.__module__ or bool(os.environ.get("DATABRICKS_RUNTIME_VERSION"))
    return hosted or kind.__name__ == "ZMQInteractiveShell"


class Shown:
    """A piece of HTML below the running cell that can be changed; needs no widgets."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, content: str) -> None:
        """Shows `content` in place of what was shown before."""
        from IPython.display import HTML, display  # the notebook brings it

        if self._handle is None:
            self._handle = display(HTML(content), display_id=True)
        else:
            self._handle.update(HTML(content))


def bar(text: str, done: int, total: int | None) -> str:
    """A progress bar as HTML; one whose end is unknown moves to and fro."""
    length = "" if total is None else f' value="{done}" max="{max(total, 1)}"'
    return (
        f'<div role="status" style="font-family:monospace"><progress{length} style="width:16em;vertical-align:middle">'
        f"</progress> {html.escape(text)}</div>"
    )


FILE_WIDTH: Final = 100
"""Columns of what is written to a file or a pipe."""


def message_stream() -> IO[str]:
    """Where messages go: standard error, but the output of the cell in a notebook, which shows errors in red."""
    return sys.stdout if in_notebook() else sys.stderr


def is_terminal(stream: IO[str]) -> bool:
    """Whether `stream` ends at a screen on which lines can be drawn again.

    Variables such as FORCE_COLOR do not make a terminal of a file: a log holds no control characters.
    """
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width_of(stream: IO[str]) -> int | None:
    """Columns of the terminal at the end of `stream`, or those that COLUMNS asks for; None where there are none."""
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
    """A Rich console on `stream`: the one kind that everything drawn goes through."""
    from rich.console import Console

    there = is_terminal(stream)
    width = width_of(stream) or FILE_WIDTH
    return Console(
        file=stream,
        width=width,
        highlight=False,
        force_terminal=there,
        force_jupyter=False,
        no_color=None if there else True,
    )


def fitted(text: str, stream: IO[str]) -> str:
    """`text` with lines that fit the terminal at the end of `stream`; in a file every message stays as it is.

    COLUMNS does not count for files: readline, and so every program that imports it, sets it for its children.
    """
    return wrapped(text, width_of(stream) if stream.isatty() else None)


def wrapped(text: str, width: int | None) -> str:
    """`text` with every line broken between words where it is longer than `width`; None leaves it as it is.

    The further lines are indented by two. A word longer than a line, such as a path, stays whole.
    """
    if width is None:
        return text
    return "\n".join(_broken(line, width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = " " * min(len(line) - len(line.lstrip()) + 2, width // 2)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )


def say(text: str, stream: IO[str] | None = None, end: str = "\n") -> None:
    """Prints `text` on standard output, or on `stream`, so that no word is cut at the edge of a terminal."""
    stream = sys.stdout if stream is None else stream
    print(fitted(text, stream), file=stream, end=end, flush=True)
