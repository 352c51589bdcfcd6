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
_FIRST_PAUSE_SECONDS: Final = 1.0
_LAST_ATTEMPTS: Final = 3


class Courier:
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
        self._left_alone = self._ended = False
        self._closing = threading.Lock()
        self._ending = threading.Event()
        self._awake = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"run {run_id}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Asks for a delivery now; a store that is away is left its pause."""
        if self._away_since is None:
            self._awake.set()

    def finish(self, patience: float) -> bool:
        """Ends the thread, delivers the rest and closes the spool; whether the store took all of it.

        A store that is away gets three more attempts; one that does not even answer the thread within `patience`
        seconds gets none, and the thread closes the spool when its request ends.
        """
        self._ending.set()
        self._awake.set()
        self._thread.join(timeout=patience)
        with self._closing:
            self._left_alone = not self._ended
            if self._left_alone:
                return False
        try:
            return self._send_last()
        finally:
            self._spool.close()

    def _send_last(self) -> bool:
        for attempt in range(1, _LAST_ATTEMPTS + 1):
            try:
                self._send()
                return True
            except Exception as error:
                self._note_away(error)
                if attempt < _LAST_ATTEMPTS:
                    time.sleep(attempt)
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
        with self._closing:
            self._ended = True
            if self._left_alone:
                self._spool.close()

    def _note_away(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            _log.warning(
                "The store of runs does not answer; the run goes on, what it logs is kept in %s until it does: %s",
                self._spool.folder,
                error,
            )

    def _note_back(self) -> None:
        if self._away_since is not None:
            _log.warning(
                "The store of runs answers again after %.0f s and has all that was logged meanwhile.",
                time.monotonic() - self._away_since,
            )
            self._away_since = None
