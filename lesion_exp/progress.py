"""Progress of a command: a bar on a terminal and in a notebook, otherwise a log line from time to time.

Every piece of work that takes long is a `Stage`. The innermost open stage is shown where log messages are shown.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol

from lesion_exp.terminal import NotebookOutput, console, in_notebook, is_terminal, message_stream, progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES: Final = 25.0
"""Longest time between two log lines if there is no bar."""
SECONDS_BETWEEN_UPDATES: Final = 0.25
"""Shortest time between two updates of the bar of a notebook."""
_BAR_WIDTH: Final = 20
"""Characters of the bar of a terminal."""


_hidden = False


@contextmanager
def without_progress() -> Iterator[None]:
    """Within the block, stages are not shown and start no thread, because a process that forks must have no threads."""
    global _hidden
    before, _hidden = _hidden, True
    try:
        yield
    finally:
        _hidden = before


class Stage:
    """A piece of work whose progress is shown, used as a context manager or with `begin` and `end`.

    With `name="reading", total=10015, unit="images"` it is announced as "reading 10,015 images"; later lines are
    "reading 3,200 of 10,015 images, 110 a second, 62 s left". Without `total` they give the time that has passed.

    Args:
        name: the work, as a participle.
        total: number of things to do; None if it is not known.
        unit: what is counted, in the plural.
        announced: whether a log line announces the stage; otherwise it is first mentioned in a later line.
        background: whether the stage is the work of a whole command between its other stages; it never has a bar.
        shown: False shows nothing at all.
    """

    def __init__(
        self,
        name: str,
        total: int | None = None,
        unit: str = "",
        *,
        announced: bool = True,
        background: bool = False,
        shown: bool = True,
    ) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.announced, self.background = announced and not background, background
        self.shown = shown and _is_first_process() and not _hidden
        self.done = 0
        self.note = ""
        """A text that is shown instead of the speed, such as the current loss."""
        self._began = time.monotonic()
        self._done_before = 0

    def __enter__(self) -> Stage:
        self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def begin(self, done: int = 0) -> None:
        """Opens the stage; `done` things were already done by an earlier process."""
        self.done = self._done_before = done
        self._began = time.monotonic()
        if self.shown:
            _board.open(self)

    def restart(self) -> None:
        """Restarts the clock from which the remaining time is estimated."""
        self._began, self._done_before = time.monotonic(), self.done

    def advance(self, count: int = 1) -> None:
        """Adds `count` to the number of things that are done."""
        self.reach(self.done + count)

    def reach(self, done: int, note: str = "") -> None:
        """Sets the number of things that are done."""
        self.done = done if self.total is None else min(done, self.total)
        self.note = note or self.note
        if self.shown:
            _board.changed(self)

    def end(self) -> None:
        """Closes the stage. A second call has no effect."""
        if self.shown:
            _board.close(self)

    def announcement(self) -> str:
        """Returns the line that announces the stage."""
        if self.total is None:
            return self.name
        return f"{self.name} {self.total:,} {self.unit.removesuffix('s') if self.total == 1 else self.unit}"

    def progress_line(self) -> str:
        """Returns the line that gives the progress of the stage."""
        if self.total is None:
            counted = f"{self.name}: {elapsed(self.seconds())} so far"
            return f"{counted}, {self.note}" if self.note else counted
        words = [f"{self.name} {self.done:,} of {self.total:,} {self.unit}", self.rate()]
        left = self.seconds_left()
        words.append("" if left is None else f"{duration(left)} left")
        return ", ".join(filter(None, words))

    def rate(self) -> str:
        """Returns the note if there is one, else the speed."""
        done, seconds = self.done - self._done_before, self.seconds()
        if self.note or done <= 0 or seconds <= 0:
            return self.note
        return f"{done / seconds:,.0f} a second" if done >= seconds else f"{seconds / done:.0f} s each"

    def seconds(self) -> float:
        """Returns the seconds since the stage began."""
        return time.monotonic() - self._began

    def seconds_left(self) -> float | None:
        """Returns the estimated remaining time; None without `total`, or before anything is done."""
        done = self.done - self._done_before
        if self.total is None or done <= 0:
            return None
        return self.seconds() / done * (self.total - self.done)


def duration(seconds: float) -> str:
    """Returns a duration as a text in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def elapsed(seconds: float) -> str:
    """Returns the time that has passed as a text; each line about it differs from the one before."""
    whole = int(seconds)
    return f"{whole // 60} min {whole % 60} s" if 90 <= seconds < 3600 else duration(seconds)


def _is_first_process() -> bool:
    """Returns whether this is the first of the processes that train together; it alone shows progress."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


class _Display(Protocol):
    """A way to show the open stages."""

    def show(self, stages: list[Stage]) -> None:
        """Is called when a stage was opened or closed; the innermost stage is the last."""

    def changed(self, stage: Stage) -> None:
        """Is called when the innermost stage has advanced."""

    def wait(self) -> float:
        """Returns the seconds until `tick` should be called."""

    def tick(self, stage: Stage) -> None:
        """Is called with the innermost stage when this time has passed."""


class _Lines:
    """Log lines, for files and pipes."""

    def __init__(self) -> None:
        self._said = time.monotonic()
        self._announced: set[int] = set()

    def show(self, stages: list[Stage]) -> None:
        if stages and stages[-1].announced and id(stages[-1]) not in self._announced:
            self._announced.add(id(stages[-1]))
            self._say(stages[-1].announcement())
        self._announced &= {id(stage) for stage in stages}

    def changed(self, stage: Stage) -> None:
        pass

    def wait(self) -> float:
        return max(self._said + SECONDS_BETWEEN_LINES - time.monotonic(), 0.01)

    def tick(self, stage: Stage) -> None:
        if time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._say(stage.progress_line())

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        log.info("%s", line)


class _Bar:
    """A bar at the bottom of a terminal that disappears when the work is done; messages scroll above it."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._tasks: dict[int, TaskID] = {}

    def show(self, stages: list[Stage]) -> None:
        stages = [stage for stage in stages if not stage.background]
        if not stages or not log.isEnabledFor(logging.INFO):
            self._stop()
            return
        if self._bar is None:
            self._bar = _rich_bar()
            self._bar.start()
        for gone in set(self._tasks) - {id(stage) for stage in stages}:
            self._bar.remove_task(self._tasks.pop(gone))
        for stage in stages:
            if id(stage) not in self._tasks:
                name = stage.announcement() if stage.total is None else stage.name
                self._tasks[id(stage)] = self._bar.add_task(name, total=stage.total, unit=stage.unit, note="")
            self._bar.update(self._tasks[id(stage)], visible=stage is stages[-1])
            self.changed(stage)

    def changed(self, stage: Stage) -> None:
        if self._bar is not None and id(stage) in self._tasks:
            self._bar.update(self._tasks[id(stage)], completed=stage.done, note=stage.rate())

    def wait(self) -> float:
        return 3600.0  # Rich redraws the bar in its own thread

    def tick(self, stage: Stage) -> None:
        pass

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._tasks = None, {}


def _rich_bar() -> Progress:
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class Count(ProgressColumn):
        """The number of things done out of the total, or the time that has passed."""

        def render(self, task: Task) -> Text:
            if task.total is None:
                return Text(duration(task.elapsed or 0.0))
            return Text(f"{task.completed:,.0f}/{task.total:,.0f} {task.fields['unit']}")

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=_BAR_WIDTH, table_column=Column(ratio=1)),
        Count(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        TimeRemainingColumn(compact=True),
        console=console(message_stream()),
        transient=True,
        refresh_per_second=4,
        redirect_stdout=False,
    )


class _Notebook:
    """A bar below the running cell."""

    def __init__(self) -> None:
        self._output = NotebookOutput()
        self._drawn = 0.0
        self._began = time.monotonic()
        self._used = False

    def show(self, stages: list[Stage]) -> None:
        stages = [stage for stage in stages if not stage.background]
        if stages and log.isEnabledFor(logging.INFO):
            self._used = True
            self._draw(stages[-1])
        elif self._used:
            self._output.show(progress_bar(f"done after {duration(time.monotonic() - self._began)}", 1, 1))

    def changed(self, stage: Stage) -> None:
        if time.monotonic() - self._drawn >= SECONDS_BETWEEN_UPDATES and not stage.background and self._used:
            self._draw(stage)

    def wait(self) -> float:
        return 3600.0  # output from another thread could appear below another cell

    def tick(self, stage: Stage) -> None:
        pass

    def _draw(self, stage: Stage) -> None:
        self._drawn = time.monotonic()
        text = stage.progress_line() if stage.done else stage.announcement()
        self._output.show(progress_bar(text, stage.done, stage.total))


class _Board:
    """The open stages, the way in which they are shown, and the thread that calls `tick`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._stages: list[Stage] = []
        self._display: _Display = _Lines()
        self._stopped = threading.Event()

    def open(self, stage: Stage) -> None:
        with self._lock:
            if not self._stages:
                self._display = _choose_display()
                self._stopped = threading.Event()
                clock = threading.Thread(target=self._tick, args=(self._stopped,), name="progress", daemon=True)
                clock.start()
            self._stages.append(stage)
            self._display.show(list(self._stages))

    def changed(self, stage: Stage) -> None:
        with self._lock:
            if self._stages and self._stages[-1] is stage:
                self._display.changed(stage)

    def close(self, stage: Stage) -> None:
        with self._lock:
            if stage in self._stages:
                self._stages.remove(stage)
                self._display.show(list(self._stages))
                if not self._stages:
                    self._stopped.set()

    def _tick(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._display.wait()):
            with self._lock:
                if self._stages and not stopped.is_set():
                    self._display.tick(self._stages[-1])


def _choose_display() -> _Display:
    if in_notebook():
        return _Notebook()
    return _Bar() if is_terminal(message_stream()) else _Lines()


_board: Final = _Board()
