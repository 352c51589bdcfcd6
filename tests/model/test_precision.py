import logging

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.model import precision
from lesion_exp.model.device import prediction_device
from lesion_exp.model.model_card import completed, model_card
from lesion_exp.model.precision import check_accelerator, precision_here, recorded_precision, resolve_precision
from tests.tiny import TINY


@pytest.fixture(params=[True, False])
def has_bf16(request, monkeypatch):
    """A processor with or without bf16."""
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: request.param)
    return request.param


def trainer(chosen):
    return {"precision": chosen, "accelerator": "cpu"}


def test_auto_is_what_the_run_was_evaluated_in_on_every_machine(has_bf16):
    for recorded in ("bf16-mixed", "32-true", "16-mixed"):
        assert recorded_precision(trainer("auto"), {"precision": recorded}) == recorded
        assert recorded_precision(trainer("32-true"), {"precision": recorded}) == "32-true", "the user's choice"
    here = "bf16-mixed" if has_bf16 else "32-true"
    assert recorded_precision(trainer("auto"), {}) == resolve_precision("auto", "cpu") == here


def test_a_processor_predicts_fp16_in_float32_and_says_so(has_bf16, caplog):
    with caplog.at_level(logging.WARNING):
        assert precision_here("16-mixed", "cpu") == "32-true"
    assert "32-true" in caplog.text
    caplog.clear()
    assert precision_here("bf16-mixed", "cpu") == "bf16-mixed"
    assert bool(caplog.text) != has_bf16, "a processor that has no bf16 is slow with it"


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"accelerator": "auto", "devices": [1]}, r"number of processes .* finds no GPU, got \[1\], .*; leave trainer"),
        ({"accelerator": "cpu", "devices": [0]}, r"number of processes for trainer.accelerator=cpu, got \[0\]"),
        ({"accelerator": "gpu", "devices": [0, 1]}, r"expected 2 GPU\(s\) .* has 0 that torch can use; buy one"),
        ({"accelerator": "auto", "devices": 2}, None),
        ({"accelerator": "cpu", "devices": "auto"}, None),
    ],
)
def test_gpus_that_a_machine_lacks_are_refused_in_words_of_its_keys(monkeypatch, node, message):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    if message is None:
        check_accelerator(node, "buy one")
        return
    with pytest.raises(ConfigError, match=message):
        check_accelerator(node, "buy one")


def test_indices_beyond_the_gpus_are_refused_where_the_accelerator_is_found_by_itself(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    check_accelerator({"accelerator": "auto", "devices": [0]}, "buy one")
    with pytest.raises(ConfigError, match="expected 2 GPU"):
        check_accelerator({"accelerator": "auto", "devices": [1]}, "buy one")


def test_the_device_that_predicts_has_that_precision(has_bf16):
    assert prediction_device(trainer("bf16-mixed")).precision == "bf16-mixed"
    assert prediction_device(trainer("16-mixed")).precision == "32-true"


def test_the_card_says_in_which_precision_the_run_was_evaluated(has_bf16, tmp_path):
    from lesion_exp.config.compose import compose

    config = compose([*TINY, "backbone=small_cnn", "trainer.precision=auto"], root=tmp_path).config
    card = model_card(config, ("mel", "nv"), None, None)
    assert card["precision"] == ("bf16-mixed" if has_bf16 else "32-true")
    assert completed({**card, "precision": "16-mixed"}, config, "r", {})["precision"] == "16-mixed"
    assert completed(card, config, "r", {}, "16-mixed")["precision"] == "16-mixed"
    old = {name: value for name, value in card.items() if name != "precision"}
    assert completed(old, config, "r", {})["precision"] == card["precision"]
