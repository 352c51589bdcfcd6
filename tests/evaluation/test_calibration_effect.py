import pytest

from lesion_exp.evaluation.calibrator import CalibrationEffect, calibration_effect
from lesion_exp.evaluation.evaluation_result import EvaluationOptions, evaluate_table
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.posthoc import fit_on_validation


def test_isotonic_calibration_on_few_images_is_warned_of_with_numbers_and_the_remedy(make_table):
    fitted, table = fit_on_validation(make_table(60, seed=1)), make_table(200)
    found = evaluate_table(table, fitted, EvaluationOptions(draws=20, calibration="isotonic"))
    before, after = found.estimates["nll"].value, found.estimates["calibrated/nll"].value
    assert after > before + 0.05, "else this tests nothing"
    (text,) = found.warnings
    assert f"log loss of 200 images that it was not fitted on from {before:.3f} to {after:.3f}" in text
    assert "calibration=none" in text
    assert found.files()["calibrated.json"]["warning"] == text
    for method, loss in found.effect.others.items():
        assert loss == pytest.approx(metrics(fitted.calibrators[method].calibrate(table))["nll"])


def test_a_calibration_that_helps_is_not_warned_of(make_table):
    table = make_table(600)
    sharp = table.assign(**{name: table[name] ** 3 for name in table if name.startswith("p_")})
    total = sharp.filter(like="p_").sum(axis=1)
    sharp = sharp.assign(**{name: sharp[name] / total for name in sharp if name.startswith("p_")})
    halves = sharp.iloc[::2].reset_index(drop=True), sharp.iloc[1::2].reset_index(drop=True)
    found = evaluate_table(
        halves[1], fit_on_validation(halves[0]), EvaluationOptions(draws=20, calibration="temperature")
    )
    assert found.effect.after < found.effect.before
    assert found.warnings == []
    assert "warning" not in found.files()["calibrated.json"]


def test_the_remedy_is_the_first_calibration_that_does_no_harm():
    effect = CalibrationEffect("isotonic", 145, 0.976, 1.657, {"temperature": 0.98, "vector": 0.951})
    assert "from 0.976 to 1.657" in effect.warning
    assert "Use calibration=vector (0.951) or calibration=none." in effect.warning
    assert effect.warning.endswith("Results on images by which a calibration is chosen are slightly too good.")
    assert CalibrationEffect("isotonic", 145, 0.976, 1.657, {}).warning.endswith("Use calibration=none.")
    assert CalibrationEffect("vector", 145, 0.9761, 0.9764, {}).warning is None, "shown as equal"


def test_without_the_calibration_there_is_nothing_to_say(make_table):
    assert calibration_effect(make_table(20), "vector", {}) is None


def test_the_file_of_calibrated_metrics_warns_of_the_calibration_alone(make_table):
    few = make_table(200).drop_duplicates("lesion_id").head(15).reset_index(drop=True)
    found = evaluate_table(few, fit_on_validation(make_table(60, seed=1)), EvaluationOptions(20, calibration="vector"))
    assert "too few" in found.warnings[0]
    assert found.files()["calibrated.json"].get("warning") == found.effect.warning


def test_the_warning_has_an_interval_and_says_what_may_be_chance(make_table):
    fitted, table = fit_on_validation(make_table(60, seed=1)), make_table(200)
    effect = calibration_effect(table, "isotonic", fitted.calibrators)
    low, high = effect.change
    assert low < effect.after - effect.before < high
    assert f"(95% interval of the change over lesions: {low:+.3f} to {high:+.3f}" in effect.warning
    sure, unsure = (CalibrationEffect("vector", 90, 0.9, 1.0, {}, (low, 0.2), 40) for low in (0.01, -0.01))
    assert "so this may be chance" in unsure.warning
    assert "so this may be chance" not in sure.warning


def test_too_few_lesions_say_nothing_of_a_calibration():
    assert CalibrationEffect("vector", 14, 0.9, 1.4, {}, (0.2, 0.6), 19).warning is None
    assert CalibrationEffect("vector", 14, 0.9, 1.4, {}, (0.2, 0.6), 20).warning is not None


def test_the_interval_is_over_patients_where_the_evaluation_is(make_table):
    fitted, patients = fit_on_validation(make_table(60, seed=1)), [f"pat{place // 10}" for place in range(400)]
    table = make_table(400).assign(lesion_id=None, patient_id=patients)
    found = evaluate_table(table, fitted, EvaluationOptions(20, unit="patient", calibration="isotonic"))
    as_lesions = calibration_effect(table.assign(lesion_id=patients), "isotonic", fitted.calibrators)
    assert found.effect.change == as_lesions.change
    assert (found.effect.num_units, found.effect.unit) == (40, "patient")
    assert "95% interval of the change over patients: " in found.effect.warning
    wide, narrow = found.effect.change, calibration_effect(table, "isotonic", fitted.calibrators).change
    assert wide != narrow
