"""What holds for every test."""

import signal


def pytest_configure() -> None:
    """Whoever starts the tests in the background may have them ignore Ctrl-C; those of Ctrl-C need it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
