"""Micro-batching: what several clients ask at the same time goes through the network together, in one thread."""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

log = logging.getLogger(__name__)

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Batcher(Generic[Asked, Answer]):
    """Answers what is put into it, in the order in which it came, up to `max_batch` at a time.

    A batch waits at most `max_wait_s` after its first entry, and only while others are known to be on their way: a
    lone client never waits.

    Args:
        compute: the answers to a batch, in its order; called by one thread only.
        max_batch: 1 answers each alone.
        max_wait_s: seconds.
        observe: told the size of every batch.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Asked]], Sequence[Answer]],
        max_batch: int,
        max_wait_s: float,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._compute = compute
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._observe = observe
        self._waiting: deque[tuple[Asked, Future[Answer]]] = deque()
        self._coming = 0
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answers what is there already, and ends."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether answers can be expected."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many wait for their batch."""
        return len(self._waiting)

    def expect(self, count: int) -> None:
        """Says that `count` are on their way; fewer, where it is negative."""
        with self._changed:
            self._coming += count
            self._changed.notify_all()

    def submit(self, asked: Asked) -> Future[Answer]:
        """The answer to come; a future that is cancelled before its batch began is never computed."""
        future: Future[Answer] = Future()
        with self._changed:
            if self._stopped:
                raise RuntimeError("the server is stopping")
            self._waiting.append((asked, future))
            self._changed.notify_all()
        return future

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            going = [(asked, future) for asked, future in batch if future.set_running_or_notify_cancel()]
            if going:
                self._observe(len(going))
                self._answer(going)

    def _next(self) -> list[tuple[Asked, Future[Answer]]] | None:
        """The next batch; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            if not self._waiting:
                return None
            deadline = time.monotonic() + self._max_wait_s
            while len(self._waiting) < self._max_batch and self._coming > 0 and not self._stopped:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            return [self._waiting.popleft() for _ in range(min(self._max_batch, len(self._waiting)))]

    def _answer(self, batch: list[tuple[Asked, Future[Answer]]]) -> None:
        try:
            answers = self._compute([asked for asked, _ in batch])
        except Exception as error:
            if len(batch) > 1:  # whatever was wrong with one of them is not the others' matter
                for entry in batch:
                    self._answer([entry])
                return
            log.error("the network failed on an image: %s", type(error).__name__)
            batch[0][1].set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            future.set_result(answer)


_LARGE: Final = 4_000_000
"""Pixels from which on an image leaves so much memory behind that it is worth giving back at once."""


class PixelBudget:
    """Room for `most` pixels; an image of more has it alone. To be used by several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Waits until there is room for `count` pixels, which are in use until the end of the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + count <= self._most)
            self._used += count
        try:
            yield
        finally:
            with self._changed:
                self._used -= count
                self._changed.notify_all()
            if count >= _LARGE:
                give_memory_back()


def give_memory_back() -> None:
    """Has the C library return what it holds and nobody uses; it would keep it for the next large image."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others do without
        if trim is not None:
            trim(0)
