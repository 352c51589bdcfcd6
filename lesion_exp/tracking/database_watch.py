"""Notices that the database of a living run was deleted, replaced or cut."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from lesion_exp.tracking.database_file import BUSY_SECONDS, is_busy, is_cut


class StoreLostError(RuntimeError):
    """The store that a run is recorded in is no longer there, so that nothing more can be recorded."""


class DatabaseWatch:
    """Compares the SQLite file of a run's store with what it was when the run was opened.

    SQLite goes on without a word when its file is deleted or replaced: it writes to a file that nobody sees any more.
    The file is never opened except by SQLite, which would lose its locks on it otherwise.
    """

    def __init__(self, database: Path, run_id: str) -> None:
        self._database = database
        self._run_id = run_id
        self._at_start = database.stat()
        self._size = self._at_start.st_size

    def check(self) -> None:
        """Checks that the file is the one that it was and has lost nothing; cheap, to be called before each delivery.

        Raises:
            StoreLostError: it is not.
        """
        try:
            found = self._database.stat()
        except FileNotFoundError:
            raise self._lost("was deleted or moved") from None
        if not os.path.samestat(found, self._at_start):
            raise self._lost("was replaced by another file")
        if found.st_size < self._size:
            self.examine()
        self._size = found.st_size

    def examine(self) -> None:
        """Checks that the file still is a database with the run; to be called when a delivery failed.

        Raises:
            StoreLostError: it is not. A file that is only busy is not lost.
        """
        try:
            with closing(sqlite3.connect(self._database, timeout=BUSY_SECONDS)) as connection:
                if is_cut(self._database, connection):
                    raise self._lost("was cut: its end is missing")
                found = connection.execute("SELECT 1 FROM runs WHERE run_uuid = ?", (self._run_id,)).fetchone()
        except sqlite3.OperationalError as error:
            if is_busy(error) or "no such table" not in str(error):
                return
            raise self._lost(f"no longer holds MLflow's tables ({error})") from error
        except sqlite3.DatabaseError as error:
            raise self._lost(f"is damaged ({error})") from error
        if found is None:
            raise self._lost("no longer holds the run")

    def _lost(self, what: str) -> StoreLostError:
        return StoreLostError(
            f"expected the store of run {self._run_id} to stay while it runs, but {self._database} {what}. The run has "
            "ended; its checkpoints and all that the store has not got are kept in its live folder. Put the store "
            f"back, then go on with: lesion-exp resume run={self._run_id}"
        )
