"""Whether this process belongs to a notebook, and how something is shown there."""

from __future__ import annotations

import builtins
import html
import os
from typing import Any


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
