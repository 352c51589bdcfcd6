"""What a command sets for its process, undone for the tests that call one."""

import logging
import os
import signal
import warnings
from contextlib import contextmanager

from lesion_exp.config.registered import TRUST_VARIABLE
from lesion_exp.next_command import own_repeated_words


@contextmanager
def restored():
    """Logging, warnings, SIGTERM, trusted packages and words of commands are afterwards as they were before."""
    top, own = logging.getLogger(), logging.getLogger("lesion_exp")
    handlers, levels, handler = list(top.handlers), (top.level, own.level), signal.getsignal(signal.SIGTERM)
    trusted = os.environ.get(TRUST_VARIABLE)
    try:
        with warnings.catch_warnings(), own_repeated_words():
            yield
    finally:
        os.environ.pop(TRUST_VARIABLE, None)
        if trusted is not None:
            os.environ[TRUST_VARIABLE] = trusted
    logging.captureWarnings(False)
    top.handlers = handlers
    top.setLevel(levels[0])
    own.setLevel(levels[1])
    signal.signal(signal.SIGTERM, handler)
