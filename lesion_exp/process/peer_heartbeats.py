"""Heartbeats of the processes of a run that torchrun or srun started, by which the loss of one shows to the others."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from lesion_exp.errors import UserError

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 2.0
"""Interval between two heartbeats."""
SILENT_SECONDS: Final = 30.0
"""A process that has given no heartbeat for so long is lost."""
DOUBTED_SECONDS: Final = 10.0
"""The same, once a connection to one of the processes has broken."""
CLOSING_SECONDS: Final = 8.0
"""How long a process has to leave what it does when another one is lost, before it is asked to, and then is ended."""
POLL_SECONDS: Final = 0.1
"""Interval between two looks at the store."""
_DONE: Final = "done"
_BROKEN: Final = re.compile(
    r"connection (closed|reset|refused)|broken pipe|\b(gloo|nccl|socket|c10d|process group)\b", re.IGNORECASE
)
"""What torch says where a process cannot reach another one; a loader that is slow has timed out as well."""


class PeerLost(SystemExit):
    """Another process of the run is lost: this one cannot go on, and its run is marked KILLED."""

    def __init__(self, text: str) -> None:
        super().__init__(1)
        self.add_note(text)


class PeerHeartbeats:
    """Heartbeats of one process of a run, and its look at those of the others.

    Args:
        store: a store of torch.distributed that all of them reach.
        rank: the rank of this process.
        names: what messages call each process, by its rank.
        address: where the store is, for messages.
    """

    def __init__(self, store: Any, rank: int, names: Sequence[str], address: str) -> None:
        self.rank, self.size = rank, len(names)
        self.address = address
        self._store = store
        self._names = names
        self._verdict: str | None = None
        self._found = threading.Event()
        self._left = threading.Event()
        """Whether this process gives no more heartbeats."""
        self._is_done = False
        """Whether this process has done its part."""
        self._heart: threading.Thread | None = None
        self._closing = threading.Event()
        """Whether the main thread is leaving what it does."""
        self._doubt = threading.Event()
        self._has_told = False
        """Whether the others know of an error of this process."""
        self._last_round = time.monotonic()

    def wait(self, keys: Sequence[str]) -> None:
        """Returns when the store has all `keys`.

        Raises:
            PeerLost: a process was lost meanwhile.
        """
        while keys and not self._store.check(list(keys)):
            if self._found.wait(POLL_SECONDS):
                raise PeerLost(str(self._verdict))

    def start(self) -> None:
        """Begins to give heartbeats and to look for those of the others."""
        self._store.set(f"beat/{self.rank}", "0")
        self.wait([f"beat/{rank}" for rank in range(self.size)])
        self._last_round = time.monotonic()
        self._heart = threading.Thread(target=self._give_heartbeats, name="heartbeats", daemon=True)
        self._heart.start()
        threading.Thread(target=self._judge, name="judge", daemon=True).start()

    def _give_heartbeats(self) -> None:
        watched = [rank for rank in range(self.size) if rank != self.rank] if self.rank == 0 else [0]
        seen = {rank: ("", time.monotonic()) for rank in watched}
        count = 0
        while not self._left.is_set() and self._verdict is None:
            count += 1
            try:
                self._store.set(f"beat/{self.rank}", _DONE if self._is_done else str(count))
                if not self._has_told and self._store.check(["failed"]):
                    return self._decide(self._store.get("failed").decode())
                beats = self._store.multi_get([f"beat/{rank}" for rank in watched])
            except Exception:
                if not self._left.is_set():
                    self._decide(f"the connection to {self._place_of_store()} is broken")
                return None
            now = self._last_round = time.monotonic()
            for rank, beat in zip(watched, beats, strict=True):
                if beat.decode() != seen[rank][0]:
                    seen[rank] = (beat.decode(), now)
                elif beat.decode() != _DONE and now - seen[rank][1] > self._patience():
                    return self._announce(rank, now - seen[rank][1])
            self._left.wait(HEARTBEAT_SECONDS)
        return None

    def _place_of_store(self) -> str:
        """Where the heartbeats are kept, in words: the first process does not look for itself there."""
        return f"{self._names[0]} at {self.address}" if self.rank else f"the store at {self.address}"

    def _announce(self, rank: int, seconds: float) -> None:
        text = f"{self._names[rank]} has given no heartbeat for {seconds:.0f} s"
        with contextlib.suppress(Exception):
            self._store.set("failed", text)
        self._decide(text)

    def _patience(self) -> float:
        return DOUBTED_SECONDS if self._doubt.is_set() else SILENT_SECONDS

    def _decide(self, text: str) -> None:
        self._verdict = (
            f"{text}, and the run cannot go on without it; start the processes again, on as many machines as are left, "
            f"with resume run=RUN in place of train"
        )
        self._found.set()

    def _judge(self) -> None:
        """Ends this process if another one is lost, and this one waits for it without end."""
        while not self._found.wait(1.0):
            if self._left.is_set():
                return
            if time.monotonic() - self._last_round > self._patience():  # the store does not even refuse to answer
                self._decide(f"{self._place_of_store()} does not answer")
        log.error("%s", self._verdict)
        if self._closing.wait(CLOSING_SECONDS):
            return
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._closing.wait(CLOSING_SECONDS):  # the main thread is in native code, which waits without end
            os._exit(1)

    @contextlib.contextmanager
    def told_of_loss(self) -> Iterator[None]:
        """Raises PeerLost in the place of an error within the block that comes from the loss of another process.

        An error of this process's own is told to the others, once where such blocks lie in each other.
        """
        try:
            yield
        except PeerLost:
            self._closing.set()
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            self._closing.set()
            if self._verdict is not None:
                raise PeerLost(self._verdict) from error
            self._tell_of(error)
            raise
        except Exception as error:
            if self._has_told:
                raise
            if self._verdict is None and _is_of_connection(error):
                self._doubt.set()
                self._found.wait(DOUBTED_SECONDS + 3 * HEARTBEAT_SECONDS)
            self._closing.set()
            if self._verdict is None:
                self._tell_of(error)
                raise
            raise PeerLost(self._verdict) from error

    def _tell_of(self, error: BaseException) -> None:
        self._has_told = True
        with contextlib.suppress(Exception):
            text = f"{self._names[self.rank]} was ended by {type(error).__name__}: {error}"
            self._store.compare_set("failed", "", text[:2000])

    def leave(self) -> None:
        """Stops the heartbeats; the first process leaves last, since others may ask what it keeps.

        The thread of the heartbeats has ended before a process says that it is done, or says so itself: otherwise it
        could overwrite that with one more heartbeat, after which none would come.
        """
        self._is_done = True
        if self.rank:
            self._left.set()
            if self._heart is not None:
                self._heart.join(CLOSING_SECONDS)
        with contextlib.suppress(Exception):
            self._store.set(f"beat/{self.rank}", _DONE)
            until = time.monotonic() + CLOSING_SECONDS
            keys = [f"beat/{rank}" for rank in range(1, self.size)]
            while self.rank == 0 and self._verdict is None and time.monotonic() < until:
                if all(beat.decode() == _DONE for beat in self._store.multi_get(keys)):
                    break
                time.sleep(POLL_SECONDS)
        self._closing.set()
        self._left.set()


def _is_of_connection(error: Exception) -> bool:
    """Whether `error` may come from the loss of another process."""
    from torch.distributed import DistError

    return not isinstance(error, UserError) and (isinstance(error, DistError) or bool(_BROKEN.search(str(error))))
