"""The bar that is shown while an image store is built."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def store_progress(total: int) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) that draws a bar on standard error, if that is a terminal and there is work to do."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("reading images"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("", total=total)

    def update(done: int, of: int) -> None:
        if not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, total=of)

    try:
        yield update
    finally:
        bar.stop()
