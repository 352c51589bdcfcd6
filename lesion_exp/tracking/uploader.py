"""The thread of a living run: carries what was logged to the store and says that the run is alive."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lesion_exp.tracking.spool import Spool

_log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS: Final = 30.0
"""A store that is away is asked this often in the end."""
SLOWEST_BYTES_A_SECOND: Final = 500_000
"""A file that goes to the store more slowly than this is given up at the end of a run, and left to `sync`."""
_FIRST_PAUSE_SECONDS: Final = 1.0
_LAST_ATTEMPTS: Final = 3


class Uploader:
    """Calls `send` every `pause` seconds and `beat` (with the seconds since its last success) every `beat_seconds`.

    While the store is away, which either says by raising, the pause grows to half a minute; whoever logs never waits.
    """

    def __init__(
        self,
        run_id: str,
        spool: Spool,
        send: Callable[[], object],
        beat: Callable[[float], object],
        *,
        pause: float,
        beat_seconds: float,
    ) -> None:
        self._spool = spool
        self._send = send
        self._beat = beat
        self._pause = pause
        self._beat_seconds = beat_seconds
        self._away_since: float | None = None
        self._delivered = False
        self._ending = threading.Event()
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"run {run_id}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Asks for a delivery now; a store that is away is left its pause."""
        if self._away_since is None:
            self._awake.set()

    def finish(self, patience: float) -> bool:
        """Lets the thread deliver the rest and close the spool; whether the store took all of it.

        A store that is away gets one more attempt, one that just went away three. Where nothing arrives for `patience`
        seconds, and for as long as the file on its way may take, the thread is left to itself.
        """
        self._ending.set()
        self._awake.set()
        waiting, since = self._spool.waiting, time.monotonic()
        while self._thread.is_alive():
            self._thread.join(timeout=0.1)
            if self._spool.waiting != waiting:
                waiting, since = self._spool.waiting, time.monotonic()
            if time.monotonic() - since > patience + self._spool.front_bytes() / SLOWEST_BYTES_A_SECOND:
                return False
        return self._delivered

    def _send_last(self) -> bool:
        for attempt in range(1, (_LAST_ATTEMPTS if self._away_since is None else 1) + 1):
            if attempt > 1:
                time.sleep(attempt - 1)
            try:
                self._send()
                return True
            except Exception as error:
                self._note_away(error)
        return False

    def _live(self) -> None:
        beaten = time.monotonic()
        pause = self._pause
        while not self._ending.is_set():
            try:
                now = time.monotonic()
                if now - beaten >= self._beat_seconds:
                    self._beat(now - beaten)
                    beaten = now
                self._send()
                self._note_back()
                pause = self._pause
            except Exception as error:
                self._note_away(error)
                self._spool.sync()
                pause = min(LONGEST_PAUSE_SECONDS, max(_FIRST_PAUSE_SECONDS, 2 * pause))
            self._awake.wait(pause)
            self._awake.clear()
        try:
            self._delivered = self._send_last()
        finally:
            self._spool.close()

    def _note_away(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            _log.warning(
                "The store of runs takes nothing now; the run goes on, what it logs is kept in %s until it does: %s",
                self._spool.folder,
                error,
            )

    def _note_back(self) -> None:
        if self._away_since is not None:
            _log.warning(
                "The store of runs took all that was logged in the %.0f s in which it was away.",
                time.monotonic() - self._away_since,
            )
            self._away_since = None
