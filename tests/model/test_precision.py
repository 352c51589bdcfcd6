import logging

import pytest

from lesion_exp.model import precision
from lesion_exp.model.device import prediction_device
from lesion_exp.model.model_card import completed, model_card
from lesion_exp.model.precision import precision_here, recorded_precision, resolve_precision
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
