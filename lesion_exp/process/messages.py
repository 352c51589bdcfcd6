"""Shows the log messages of a command: all of this package's, and only errors and relevant warnings of libraries."""

from __future__ import annotations

import logging
import os
import warnings
from typing import IO, Any

from lesion_exp.privacy import redacted, without_secrets
from lesion_exp.terminal import message_stream, wrapped_for

QUIET = (
    "pytorch_lightning", "lightning_fabric", "lightning", "mlflow", "alembic", "matplotlib", "PIL", "h5py", "git",
    "urllib3", "torch",
)  # fmt: skip

QUIET_WARNINGS = (
    ".*does not have many workers.*",
    ".*Consider setting.*",
    ".*lr_scheduler.step.*",
    ".*pin_memory.*",
    ".*Checkpoint directory.*",
    ".*your dataloader is not resumable.*",
    ".*`srun` command is available.*",
    ".*using a custom batch sampler.*",
    ".*find_unused_parameters.*",  # of epochs that train all weights, after others that did not
)
"""Warnings of libraries about settings that are intended."""

_WARNINGS = "py.warnings"
"""The logger that `logging.captureWarnings` uses."""


class _OnceEach(logging.Filter):
    """Shows the same warning of a library once: a font, for example, lacks the same character in every picture."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether the record is to be shown."""
        text = record.getMessage()
        if record.name != _WARNINGS:
            return True
        is_new = text not in self._said
        self._said.add(text)
        return is_new


class _Formatter(logging.Formatter):
    """Formats messages without secrets, and for a file (`in_a_file`) also without what must not be stored."""

    def __init__(self, in_a_file: bool) -> None:
        super().__init__("%(message)s")
        self._change = redacted if in_a_file else without_secrets

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as a text."""
        return self._change(super().format(record))


class _Handler(logging.StreamHandler[IO[str]]):
    """Writes to the current stream of messages, which moves a progress bar out of the way."""

    @property
    def stream(self) -> IO[str]:
        """Standard error, or the output of a notebook's cell."""
        return message_stream()

    @stream.setter
    def stream(self, value: Any) -> None:
        """Ignores what the base class sets."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as text that fits the terminal; in a file a message stays on one line."""
        return wrapped_for(super().format(record), self.stream)


def show_messages(in_a_file: bool = False) -> None:
    """Shows the log messages of this package on standard error, or in a notebook below the running cell.

    `in_a_file` says that standard error goes to a file that is kept. Libraries are limited to errors.
    """
    handler = _Handler()
    handler.setFormatter(_Formatter(in_a_file))
    handler.addFilter(_OnceEach())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("lesion_exp").setLevel(logging.INFO)
    quiet_libraries()
    warnings.simplefilter("ignore", category=FutureWarning)
    warnings.simplefilter("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    warnings.formatwarning = lambda message, *rest: f"warning: {message}"  # no path and line of our code
    logging.captureWarnings(True)


def quiet_libraries() -> None:
    """Limits libraries to errors; has to be called again after they are imported, since some set levels and filters."""
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in QUIET_WARNINGS:
        warnings.filterwarnings("ignore", message=text)
