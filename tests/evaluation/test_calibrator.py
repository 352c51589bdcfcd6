from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.calibrator import (
    METHODS,
    IsotonicScaling,
    TemperatureScaling,
    VectorScaling,
    fit_calibrator,
    log_probs,
    read_calibrator,
    with_probabilities,
)
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import check, classes_of, probabilities, true_classes

MakeTable = Callable[..., pd.DataFrame]


def drawn_from(logits: np.ndarray, seed: int = 0) -> np.ndarray:
    """True classes drawn from the probabilities themselves, which are then perfectly calibrated."""
    cumulated = softmax(logits, axis=1).cumsum(axis=1)
    below = np.random.default_rng(seed).random((len(logits), 1)) > cumulated
    return np.minimum(below.sum(axis=1), logits.shape[1] - 1)


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(20_000, 4)) * 2


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoiled_the_probabilities_is_found(logits: np.ndarray, temperature: float) -> None:
    true = drawn_from(logits)
    spoiled = softmax(logits * temperature, axis=1)
    fitted = TemperatureScaling.fit(spoiled, true)
    assert fitted.temperature == pytest.approx(temperature, rel=0.03)
    np.testing.assert_allclose(fitted.apply(spoiled), softmax(logits, axis=1), atol=0.02)


def test_temperature_one_changes_nothing(table: pd.DataFrame) -> None:
    np.testing.assert_allclose(TemperatureScaling(1.0).apply(probabilities(table)), probabilities(table), atol=1e-6)


def test_the_temperature_is_scikit_learns(logits: np.ndarray) -> None:
    train, true = logits[:2000], drawn_from(logits)[:2000]
    model = LogisticRegression(C=0.01).fit(train[:200], true[:200])
    reference = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(train, true)
    mine = TemperatureScaling.fit(model.predict_proba(train), true).apply(model.predict_proba(train))
    np.testing.assert_allclose(mine, reference.predict_proba(train), atol=1e-4)


def test_factors_and_shifts_that_spoiled_the_probabilities_are_found(logits: np.ndarray) -> None:
    scale, bias = np.array([0.5, 1.0, 1.5, 1.0]), np.array([1.0, 0.0, -1.0, 0.5])
    spoiled = softmax(logits, axis=1)
    honest = np.log(spoiled) * scale + bias
    true = drawn_from(honest)
    fitted = VectorScaling.fit(spoiled, true)
    np.testing.assert_allclose(fitted.scale, scale, atol=0.1)
    np.testing.assert_allclose(np.subtract(fitted.bias, fitted.bias[1]), bias - bias[1], atol=0.15)
    np.testing.assert_allclose(fitted.apply(spoiled), softmax(honest, axis=1), atol=0.03)
    assert log_loss(fitted.apply(spoiled), true) < log_loss(TemperatureScaling.fit(spoiled, true).apply(spoiled), true)


def test_vector_scaling_is_the_smallest_of_its_loss(table: pd.DataFrame) -> None:
    """No neighbour of the numbers found has a smaller log loss plus pull."""
    probs, true = probabilities(table), true_classes(table)
    found = VectorScaling.fit(probs, true)
    numbers = np.r_[found.scale, found.bias]

    def loss(values: np.ndarray) -> float:
        scaled = log_softmax(log_probs(probs) * values[:7] + values[7:], axis=1)
        return -scaled[np.arange(len(true)), true].sum() + ((values - np.r_[np.ones(7), np.zeros(7)]) ** 2).sum() / 2

    for step in np.vstack([np.eye(14), -np.eye(14)]) * 0.05:
        assert loss(numbers) < loss(numbers + step)


def test_vector_scaling_of_an_absent_class_stays_finite(make_table: MakeTable) -> None:
    table = make_table(100, {"a": 0.5, "b": 0.5, "c": 0.0})
    fitted = VectorScaling.fit(probabilities(table), true_classes(table))
    assert np.isfinite([*fitted.scale, *fitted.bias]).all()
    assert abs(fitted.bias[2]) < 10


def test_isotonic_curves_of_two_classes_are_scikit_learns(make_table: MakeTable) -> None:
    table = make_table(500, {"benign": 0.7, "malignant": 0.3}, skill=1.0)
    probs, true = probabilities(table), true_classes(table)
    expected = IsotonicRegression(out_of_bounds="clip").fit(probs[:, 1], true).predict(probs[:, 1])
    np.testing.assert_allclose(IsotonicScaling.fit(probs, true).apply(probs)[:, 1], expected, atol=1e-6)


def test_an_image_to_which_all_curves_give_nothing_keeps_what_it_had() -> None:
    scaling = IsotonicScaling((((0.0, 1.0), (0.0, 0.0)), ((0.0, 1.0), (0.0, 0.0))))
    np.testing.assert_array_equal(scaling.apply(np.array([[0.3, 0.7]])), [[0.3, 0.7]])


@pytest.mark.parametrize("method", METHODS)
def test_a_calibration_makes_overconfident_predictions_honest_on_other_images(
    make_table: MakeTable, method: str
) -> None:
    val, test = (
        with_probabilities(table, softmax(log_probs(probabilities(table)) * 3, axis=1))
        for table in (make_table(3000, seed=1), make_table(3000, seed=2))
    )
    calibrated = fit_calibrator(method, val).calibrate(test)
    check(calibrated)
    before, after = metrics(test), metrics(calibrated)
    for name in ("ece", "ece_equal_mass", "ece_classwise", "brier", "nll"):
        assert after[name] < (0.9 if name == "brier" else 0.7) * before[name], name
    if method == "temperature":
        assert (calibrated["prediction"] == test["prediction"]).all()
        assert after["auroc/mel"] == pytest.approx(before["auroc/mel"], abs=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_a_calibration_survives_json(table: pd.DataFrame, method: str) -> None:
    fitted = fit_calibrator(method, table)
    again = read_calibrator(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    assert again.images == 500
    assert again.lesions == 250
    pd.testing.assert_frame_equal(again.calibrate(table), fitted.calibrate(table))


def test_certain_and_wrong_can_be_calibrated(make_table: MakeTable) -> None:
    table = make_table(50, {"a": 0.5, "b": 0.5})
    table = with_probabilities(table, np.eye(2)[1 - true_classes(table)])
    for method in METHODS:
        assert np.isfinite(probabilities(fit_calibrator(method, table).calibrate(table))).all()


def test_mistakes_are_named(table: pd.DataFrame, make_table: MakeTable) -> None:
    with pytest.raises(ConfigError, match=r"one of temperature, vector, isotonic, got 'temprature'; did you mean"):
        fit_calibrator("temprature", table)
    other = make_table(50, {"mel": 0.5, "nv": 0.5})
    with pytest.raises(DataError, match=r"classes mel, nv, on which the calibration was fitted, got akiec, bcc"):
        fit_calibrator("temperature", other).calibrate(table)
    kept = {"method": "temperature", "classes": ["a"], "fitted_on": {"images": 1, "lesions": 1}}
    with pytest.raises(DataError, match=r"got other values \(KeyError\('temperature'\)\); use a run of this version"):
        read_calibrator(kept)
    with pytest.raises(DataError, match=r"got other values \(ValueError.*; use a run of this version"):
        read_calibrator({**kept, "temperature": "warm"})
    assert classes_of(table)[0] == "akiec"


def log_loss(probs: np.ndarray, true: np.ndarray) -> float:
    return float(-np.log(probs[np.arange(len(true)), true]).mean())
