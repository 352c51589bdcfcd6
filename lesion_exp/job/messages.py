"""What a person reads while a command runs: our messages, and of the libraries' only what matters."""

from __future__ import annotations

import logging
import os
import sys
import warnings

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
)
"""Warnings of libraries about what is meant to be so."""


def show_messages() -> None:
    """Sends our log messages to standard error and silences the chatter of libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
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
    """Lets libraries say errors only; to be called again once they are imported, since some set levels and filters."""
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in QUIET_WARNINGS:
        warnings.filterwarnings("ignore", message=text)
