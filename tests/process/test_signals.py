import io
import os
import signal
import threading

import pytest
import torch

from lesion_exp.process.signals import end_on_sigterm, preserve_stop_signals


@pytest.fixture(autouse=True)
def handlers():
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


class StoppedWhileWritten(io.BytesIO):
    """A file during whose writing the process is told to end."""

    def __init__(self, number):
        super().__init__()
        self.number, self.writes = number, 0

    def write(self, data):
        self.writes += 1
        if self.writes == 4:
            os.kill(os.getpid(), self.number)
        return super().write(data)


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)  # fmt: skip
def test_a_stop_while_a_checkpoint_is_written_is_a_stop_and_no_failure(number, expected):
    end_on_sigterm()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(expected) as caught, preserve_stop_signals():
        torch.save({str(number): torch.zeros(1000) for number in range(9)}, StoppedWhileWritten(number))
    assert isinstance(caught.value.__cause__, RuntimeError), "torch made it one"
    assert expected is KeyboardInterrupt or caught.value.code == 143
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_that_no_stop_caused_stays_that_error():
    with pytest.raises(ZeroDivisionError), preserve_stop_signals():
        _ = 1 / 0


def test_another_thread_than_the_first_may_use_it():
    seen = []

    def use():
        with preserve_stop_signals():
            seen.append("done")

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == ["done"]
