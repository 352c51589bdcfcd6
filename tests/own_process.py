"""What a command sets for its process, undone for the tests that call one."""

import logging
import signal
import warnings
from contextlib import contextmanager


@contextmanager
def restored():
    """Logging, warnings and SIGTERM are afterwards as they were before."""
    top, own = logging.getLogger(), logging.getLogger("lesion_exp")
    handlers, levels, handler = list(top.handlers), (top.level, own.level), signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        yield
    logging.captureWarnings(False)
    top.handlers = handlers
    top.setLevel(levels[0])
    own.setLevel(levels[1])
    signal.signal(signal.SIGTERM, handler)
