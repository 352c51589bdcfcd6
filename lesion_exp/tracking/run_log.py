"""The log of a run: the messages of Python's logging while it is active, saved as the artifact `log.txt`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lesion_exp.privacy import redacted
from lesion_exp.tracking.spool import LOCK_FILE, SPOOL_DIR

if TYPE_CHECKING:
    from lesion_exp.tracking.run_writer import RunWriter

_OWN_HANDLERS: Final = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "mlflow")
"""Loggers that may not propagate to the root logger."""


class RedactingFormatter(logging.Formatter):
    """Formats a record with its traceback, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a text."""
        return redacted(super().format(record))


class RunLog:
    """Writes the log records of the process to `path`, and saves the file as the run's `log.txt` when it is closed.

    A resumed run continues its log, also on a machine that does not have the file.
    """

    def __init__(self, run: RunWriter, path: Path) -> None:
        self._run = run
        self._path = path
        self._handler: logging.Handler | None = None
        self._loggers = [logging.getLogger()]

    def open(self) -> None:
        """Starts to record."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists() and (before := self._run.read_text(self._path.name)):
            self._path.write_text(before, encoding="utf-8")
        self._handler = logging.FileHandler(self._path, encoding="utf-8")
        self._handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._loggers += [logger for name in _OWN_HANDLERS if not (logger := logging.getLogger(name)).propagate]
        for logger in self._loggers:
            logger.addHandler(self._handler)

    def write(self, text: str) -> None:
        """Appends a text as it is, such as a traceback."""
        assert self._handler is not None, "the log is not open"
        self._handler.flush()
        with self._path.open("a", encoding="utf-8") as file:
            file.write(redacted(text))

    def close(self) -> None:
        """Stops recording and saves the log with the run."""
        assert self._handler is not None, "the log is not open"
        for logger in self._loggers:
            logger.removeHandler(self._handler)
        self._handler.close()
        self._run.log_file(self._path, self._path.name)

    def remove_if_alone(self) -> None:
        """Removes the file, which was saved with the run, unless there is a checkpoint beside it."""
        if {path.name for path in self._path.parent.glob("*")} <= {self._path.name, SPOOL_DIR, LOCK_FILE}:
            self._path.unlink(missing_ok=True)
