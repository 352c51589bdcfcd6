import json
from dataclasses import replace

import pytest

from lesion_exp.config.compose import compose
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.answer_rates import answer_rates
from lesion_exp.evaluation.calibrator import calibration_effect
from lesion_exp.tracking.stored_run import read_predictions
from lesion_exp.trained_runs.trained_run import stored_calibrators
from lesion_exp.verbs.serve.model_card import model_card
from lesion_exp.verbs.serve.served_model import EDGES, Asked, Patient, ServedModel, open_model
from lesion_exp.verbs.serve.settings import ModelOptions
from tests.verbs.report.conftest import CLASSES
from tests.verbs.serve.conftest import picture, served

OPTIONS = ModelOptions(calibration="temperature")


def test_a_run_is_opened_with_its_calibration_and_its_card_tells_what_it_keeps(project):
    root, run = project
    model = open_model(run, OPTIONS, compose([], root=root).project)
    assert model.classes == CLASSES
    assert model.calibrator is not None
    assert model.conformal.method == "aps"
    card = model_card(run, model)
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
    model = open_model(run, replace(OPTIONS, calibration="none"), compose([], root=root).project)
    assert model.calibrator is None
    probabilities = model_card(run, model)["probabilities"]
    assert probabilities["error_after"] is None
    assert probabilities["error_before"] is not None


def test_without_a_choice_nothing_is_calibrated_and_rates_are_those_of_the_kept_test_predictions(project):
    root, run = project
    project = compose([], root=root).project
    model = open_model(run, ModelOptions(), project)
    assert model.calibration == "none"
    table = read_predictions(run, "test")
    assert model.rates == answer_rates(table, EDGES)
    answers = model_card(run, model)["answers"]
    confident = table[(table.filter(like="p_").max(axis=1) >= 0.7) & (table.filter(like="p_").max(axis=1) < 0.9)]
    right = answers["by_confidence"][2]["right"]
    assert answers["by_confidence"][2]["level"] == "moderate"
    assert right["images"] == len(confident)
    assert right["value"] == pytest.approx((confident["label"] == confident["prediction"]).mean())
    assert right["lesions"] == confident["lesion_id"].nunique()
    calibrated = open_model(run, OPTIONS, project)
    assert calibrated.rates == answer_rates(calibrated.calibrator.calibrate(table), EDGES)
    untested = model_card(run, ServedModel(model.predictor, None, model.conformal))["answers"]
    assert not untested["tested"]
    assert "was not measured" in untested["caution"]


def test_a_calibration_that_does_harm_is_said_when_the_server_starts(project, caplog):
    root, run = project
    model = open_model(run, replace(OPTIONS, calibration="isotonic"), compose([], root=root).project)
    effect = calibration_effect(read_predictions(run, "test"), "isotonic", stored_calibrators(run))
    assert effect.is_worse, "else this tests nothing"
    assert model.warning == effect.warning
    assert f"{effect.before:.3f} to {effect.after:.3f}" in model.warning
    assert model.warning in caplog.text
    assert model.warning in model_card(run, model)["warnings"]


def test_networks_that_need_masks_are_refused(predictor_of):
    with pytest.raises(ConfigError, match="mask_path"):
        served(predictor_of("dataset.mask=crop"))


def test_a_layer_that_is_none_is_named(project):
    root, run = project
    model = open_model(run, replace(OPTIONS, layer="nothing"), compose([], root=root).project)
    asked = Asked(model.prepare(picture(), "it", Patient()), with_heat_map=True)
    with pytest.raises(ConfigError, match="nothing"):
        model.answer([asked])
