"""What a process that trains with others does when it is told to end."""

import os
import signal

import pytest
import pytorch_lightning as pl
import torch

from lesion_exp.config.compose import compose
from lesion_exp.process.signals import end_on_sigterm
from lesion_exp.training.trainer import build_trainer
from tests.tiny import TINY


@pytest.fixture
def restored():
    kept = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    for number, handler in kept.items():
        if handler is not None and number not in {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, handler)


def test_a_process_that_is_told_to_end_does_not_wait_for_the_others(tmp_path, monkeypatch, restored):
    """Lightning's own handler of SIGTERM waits in a broadcast for processes that may have left."""

    def wait(*_, **__):
        raise AssertionError("the others may have left")

    trainer = build_trainer(compose(TINY, root=tmp_path).config["trainer"], False, tmp_path, [])
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "broadcast", wait)
    end_on_sigterm()
    trainer._signal_connector.register_signal_handlers()
    with pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 143
    assert trainer.received_sigterm
