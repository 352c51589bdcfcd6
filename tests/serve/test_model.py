import json

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.job.compose import compose
from lesion_exp.serve.model_card import model_card
from lesion_exp.serve.served_model import Asked, Patient, open_model
from tests.report.conftest import CLASSES
from tests.serve.conftest import picture, served

OPTIONS = {"checkpoint": "best", "calibration": "temperature", "conformal": "aps", "layer": None}


def test_a_run_is_opened_with_its_calibration_and_its_card_tells_what_it_keeps(project):
    root, run = project
    model = open_model(run, OPTIONS, compose([], root=root).config["paths"])
    assert model.classes == CLASSES
    assert model.calibrator is not None
    assert model.conformal.method == "aps"
    card = model_card(run, model, "temperature")
    json.dumps(card, allow_nan=False)
    assert card["run_id"] == run.run_id
    assert card["job_hash"] == "abc"
    assert [entry["malignant"] for entry in card["classes"]] == [False, True, False]
    assert card["data"]["licence"] == "MIT"
    assert card["data"]["parts"]["training"]["lesions"] == 90
    assert card["results"]["part"] == "test"
    accuracy = next(entry for entry in card["results"]["metrics"] if entry["key"] == "balanced_accuracy")
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert {entry["key"] for entry in card["results"]["by_class"]["mel"]["metrics"]} >= {"recall/mel", "auroc/mel"}
    assert card["probabilities"]["conformal"]["promise"] == pytest.approx(0.9)
    assert card["probabilities"]["error_after"] is not None
    assert any("generated drawings" in text for text in card["limits"])
    assert any("melanomas" in text for text in card["limits"])
    assert "/secret/place" not in json.dumps(card)


def test_other_calibrations_do_not_borrow_its_figures(project):
    root, run = project
    model = open_model(run, {**OPTIONS, "calibration": "none"}, compose([], root=root).config["paths"])
    assert model.calibrator is None
    probabilities = model_card(run, model, "none")["probabilities"]
    assert probabilities["error_after"] is None
    assert probabilities["error_before"] is not None


def test_networks_that_need_masks_are_refused(predictor_of):
    with pytest.raises(ConfigError, match="mask_path"):
        served(predictor_of("dataset.mask=crop"))


def test_a_layer_that_is_none_is_named(project):
    root, run = project
    model = open_model(run, {**OPTIONS, "layer": "nothing"}, compose([], root=root).config["paths"])
    asked = Asked(model.prepare(picture(), "it", Patient()), with_evidence=True)
    with pytest.raises(ConfigError, match="nothing"):
        model.answer([asked])
