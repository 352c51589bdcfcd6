import json
from dataclasses import replace

import pytest
import torch

from lesion_exp.config.compose import compose
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.answer_rates import answer_rates
from lesion_exp.evaluation.calibrator import calibration_effect
from lesion_exp.tracking.stored_run import read_predictions
from lesion_exp.trained_runs.run_summary import RunSummary
from lesion_exp.trained_runs.trained_run import stored_calibrators
from lesion_exp.verbs.serve.answers import answered
from lesion_exp.verbs.serve.model_card import OTHER_WEIGHTS, model_card
from lesion_exp.verbs.serve.served_model import (
    EDGES,
    MOST_THREADS,
    Asked,
    Patient,
    ServedModel,
    confidence_sentence,
    limit_threads,
    open_model,
)
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


def test_other_weights_do_not_borrow_the_results_and_the_sets_of_the_best(project, file_of):
    root, run = project
    model = open_model(run, ModelOptions(checkpoint=file_of(changed=True)), compose([], root=root).project)
    card = model_card(run, model)
    assert card["results"] is None
    assert card["probabilities"]["conformal"] is None
    assert card["probabilities"]["error_before"] is card["probabilities"]["error_after"] is None
    assert not card["answers"]["tested"]
    assert OTHER_WEIGHTS in card["limits"]
    assert not any("melanomas" in text or "tested on" in text for text in card["limits"])
    predicted = model.answer([Asked(model.prepare(picture(), "it", Patient()), with_heat_map=True)])[0]
    image = answered("it", model, predicted, None)
    assert image.conformal_set is None
    assert image.prediction in CLASSES


def test_a_file_with_the_best_weights_is_served_as_the_run_itself(project, file_of):
    root, run = project
    project = compose([], root=root).project
    model = open_model(run, replace(OPTIONS, checkpoint=file_of(changed=False)), project)
    by_id = open_model(run, OPTIONS, project)
    assert model.rates == by_id.rates is not None
    assert model.conformal == by_id.conformal is not None
    assert model_card(run, model) == model_card(run, by_id)


def test_a_calibration_beside_other_weights_is_refused(project, file_of):
    root, run = project
    with pytest.raises(ConfigError, match=r"calibration=none beside a checkpoint file.*run by its id"):
        open_model(run, replace(OPTIONS, checkpoint=file_of(changed=True)), compose([], root=root).project)


def test_where_no_lesion_is_known_the_card_counts_images(project, monkeypatch):
    root, run = project
    model = open_model(run, ModelOptions(), compose([], root=root).project)
    known = model_card(run, model)
    monkeypatch.setattr(RunSummary, "counts_lesions", False)
    card = model_card(run, model)
    assert known["results"]["lesions"] > 0
    assert card["results"]["lesions"] is None
    assert card["results"]["by_class"]["mel"]["lesions"] is None
    assert known["probabilities"]["conformal"]["fitted_on"].endswith("lesions of the validation part")
    assert card["probabilities"]["conformal"]["fitted_on"].endswith("images of the validation part")
    assert {entry["right"]["lesions"] for entry in card["answers"]["by_confidence"] if entry["right"]} == {None}
    assert "lesions" not in card["data"]["parts"]["training"]


def test_rates_and_warnings_are_over_patients_where_the_evaluation_is(project, monkeypatch):
    root, run = project
    patients = [f"pat{place // 4}" for place in range(180)]
    table = read_predictions(run, "test").assign(patient_id=patients)
    monkeypatch.setattr("lesion_exp.trained_runs.statements.read_stored_table", lambda *_: table)
    over = "lesion_exp.trained_runs.statements.unit_of", "lesion_exp.verbs.serve.served_model.unit_of"
    for name in over:
        monkeypatch.setattr(name, lambda *_: "patient")
    model = open_model(run, replace(OPTIONS, calibration="isotonic"), compose([], root=root).project)
    assert model.rates == answer_rates(model.calibrator.calibrate(table), EDGES, "patient")
    assert "of the change over patients" in model.warning
    assert model_card(run, model)["answers"]["by_confidence"][3]["right"]["patients"] > 0
    assert " patients) with such a probability" in confidence_sentence(0.95, model.rates)


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


@pytest.mark.parametrize(("of_user", "threads"), [(None, MOST_THREADS), ("32", 32)])
def test_more_threads_than_help_are_kept_only_if_the_user_says_so(monkeypatch, of_user, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if of_user is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", of_user)
    used = [32]
    monkeypatch.setattr(torch, "get_num_threads", lambda: used[-1])
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    limit_threads()
    assert used[-1] == threads
