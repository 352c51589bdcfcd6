"""How far a prediction is and how long it takes yet, on standard error."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lesion_exp.job.progress import progress_console

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES: Final = 15.0
"""Where standard error is no terminal, and so no bar is drawn."""


class PredictionProgress:
    """A bar on a terminal, else a line now and then. Use it as a context manager; `shown` false keeps it silent."""

    def __init__(self, total: int, done: int, *, shown: bool) -> None:
        self.total, self.done, self.done_before = total, done, done
        self.shown = shown
        self._began = self._said = time.monotonic()
        console = progress_console()
        self._bar = self._task = None
        if shown and console.is_terminal:
            columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
            self._bar = Progress(
                TextColumn("predicting"), *columns, TimeRemainingColumn(compact=True), console=console, transient=True
            )
            self._task = self._bar.add_task("", total=total, completed=done, note="")

    def __enter__(self) -> PredictionProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self) -> None:
        """Starts the clock by which the remaining time is estimated."""
        self._began = time.monotonic()

    def advance(self, num_images: int) -> None:
        """Counts images of all processes."""
        now = time.monotonic()
        self.done = min(self.done + num_images, self.total)
        rate = (self.done - self.done_before) / max(now - self._began, 1e-9)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, note=f"{rate:.0f} images/s")
        elif self.shown and now - self._said >= SECONDS_BETWEEN_LINES:
            self._said = now
            left = (self.total - self.done) / max(rate, 1e-9)
            log.info("%s of %s images, %.0f a second, %.0f s left", f"{self.done:,}", f"{self.total:,}", rate, left)
