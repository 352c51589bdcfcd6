"""Micro-batching: images that several clients send at the same time are predicted together, in one thread."""

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
    """Collects requests into batches and computes their answers, in the order of arrival.

    A batch waits at most `max_wait_s` after its first request, and only while others are announced (see `expect`), so
    that a single client never waits.

    Args:
        compute: computes the answers to a batch, in its order; called by one thread only.
        max_batch: largest number of requests in a batch.
        max_wait_s: seconds.
        observe: called with the size of every batch.
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
        """Starts the thread that answers."""
        self._thread.start()

    def stop(self) -> None:
        """Answers the waiting requests and ends the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """The number of requests that wait for their batch."""
        return len(self._waiting)

    def expect(self, count: int) -> None:
        """Announces `count` requests; a negative count withdraws some."""
        with self._changed:
            self._coming += count
            self._changed.notify_all()

    def submit(self, asked: Asked) -> Future[Answer]:
        """Adds a request and returns the future of its answer, which may be cancelled before its batch begins."""
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
        """Waits for the next batch and returns it; None at the end."""
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
            if len(batch) > 1:  # a failure on one image must not affect the others
                for entry in batch:
                    self._answer([entry])
                return
            log.error("the network failed on an image: %s", type(error).__name__)
            batch[0][1].set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            future.set_result(answer)


_LARGE: Final = 4_000_000
"""Pixels of an image whose memory is returned to the system at once."""


class PixelBudget:
    """Limits the pixels that are decoded at the same time to `most`; a larger image is decoded alone. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Waits until `count` pixels are free, and reserves them until the end of the block."""
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
    """Makes the C library return unused memory to the system, which it would keep for the next large image."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc only
        if trim is not None:
            trim(0)
