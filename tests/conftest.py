"""What holds for every test."""

import logging
import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """Whoever starts the tests in the background may have them ignore Ctrl-C; those of Ctrl-C need it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_messages_of_an_earlier_command() -> Iterator[None]:
    """A command that a test called in this process shows messages on a stream that is closed when the test ends."""
    _stop_showing_messages()
    yield
    _stop_showing_messages()


def _stop_showing_messages() -> None:
    logging.captureWarnings(False)
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if type(handler) is not logging.StreamHandler]
