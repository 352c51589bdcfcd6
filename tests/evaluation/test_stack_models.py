from __future__ import annotations

import builtins
import json
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.stack_models import check_installed, fit_model, fit_present, read_model

TREES = ("hgb", "lgbm")


def data(num_classes: int, size: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of which some are missing, one always, and whose missing values say something."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(size, 6))
    scores = features[:, :1] * np.arange(num_classes) + rng.normal(size=(size, num_classes))
    true = scores.argmax(axis=1)
    features[rng.random(size) < np.where(true == 0, 0.6, 0.1), 1] = np.nan
    features[rng.random(size) < 0.2, 0] = np.nan
    features[:, 5] = np.nan
    return features, true


def fit(method: str, num_classes: int, size: int = 600) -> tuple[Any, Any, np.ndarray]:
    features, true = data(num_classes, size)
    model, predict = fit_model(method, features, true, num_classes, np.zeros(6, bool), None)
    return model, predict, features


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("method", TREES)
def test_trees_predict_as_their_library(method: str, num_classes: int) -> None:
    if method == "lgbm":
        pytest.importorskip("lightgbm")
    model, predict, _ = fit(method, num_classes)
    others = data(num_classes, 3000, seed=7)[0]
    others[::3, 2] = np.nan  # a feature that was never missing in the fit
    np.testing.assert_allclose(model.probs(others), predict(others), atol=1e-12)
    assert np.abs(model.probs(others) - model.probs(others).mean(axis=0)).max() > 0.2


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("method", ["logistic", *TREES])
def test_a_model_survives_json_to_the_bit(method: str, num_classes: int) -> None:
    if method == "lgbm":
        pytest.importorskip("lightgbm")
    model, _, features = fit(method, num_classes)
    again = read_model(json.loads(json.dumps(model.to_dict(), allow_nan=False)))
    np.testing.assert_array_equal(again.probs(features), model.probs(features))


@pytest.mark.parametrize("method", ["logistic", *TREES])
def test_threads_change_nothing(method: str) -> None:
    if method == "lgbm":
        pytest.importorskip("lightgbm")
    found = []
    for threads in (1, 4):
        with threadpool_limits(threads):
            found.append(json.dumps(fit(method, 3, 1500)[0].to_dict()))
    assert found[0] == found[1]


def test_the_trees_are_scikit_learns() -> None:
    features, true = data(3)
    model, _ = fit_model("hgb", features, true, 3, np.zeros(6, bool), None)
    features[:, 5] = 0  # scikit-learn cannot bin a feature without any value
    reference = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=100, max_leaf_nodes=4, min_samples_leaf=20, l2_regularization=1.0,
        early_stopping=False,
    ).fit(features, true)  # fmt: skip
    np.testing.assert_allclose(model.probs(features), reference.predict_proba(features), atol=1e-12)


@pytest.mark.parametrize("method", ["logistic", *TREES])
def test_missing_values_are_used(method: str) -> None:
    """In the generated data a missing value of the second feature makes the first class likely."""
    if method == "lgbm":
        pytest.importorskip("lightgbm")
    model, _, _ = fit(method, 3, 2000)
    rows = np.zeros((2, 6))
    rows[1, 1] = np.nan
    probs = model.probs(rows)
    assert probs[1, 0] > probs[0, 0] + 0.2


def test_weights_count() -> None:
    features, true = data(2)
    for method in ("logistic", "hgb"):
        heavy = np.where(true == 0, 20.0, 1.0)
        plain = fit_model(method, features, true, 2, np.zeros(6, bool), None)[0].probs(features)
        weighted = fit_model(method, features, true, 2, np.zeros(6, bool), heavy)[0].probs(features)
        assert weighted[:, 0].mean() > plain[:, 0].mean() + 0.1


def test_a_class_without_images_has_a_small_probability() -> None:
    features, true = data(2, 200)
    for method in ("logistic", "hgb"):
        probs = fit_present(method, features, true * 2, 4, np.zeros(6, bool), None)(features)
        np.testing.assert_allclose(probs.sum(axis=1), 1)
        np.testing.assert_allclose(probs[:, [1, 3]], 1 / 204)
        alone = fit_present(method, features, np.full(200, 2), 3, np.zeros(6, bool), None)(features)
        np.testing.assert_allclose(alone, np.tile([1 / 203, 1 / 203, 201 / 203], (200, 1)))


def test_damaged_models_are_refused() -> None:
    good = fit("hgb", 3)[0].to_dict()
    circle = {**good, "left": [0] * len(good["left"])}
    for bad in (circle, {**good, "roots": [10**9]}, {**good, "feature": [9] * len(good["feature"])}, {"kind": "code"},
                {**good, "value": good["value"][1:]}, {},
                {**fit("logistic", 3)[0].to_dict(), "bias": [0.0]}):  # fmt: skip
        with pytest.raises(DataError, match="combine the runs again"):
            read_model(bad)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def without(name: str, *arguments: Any, **keys: Any) -> Any:
        if name == "lightgbm":
            raise ImportError(name)
        return load(name, *arguments, **keys)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"package lightgbm for stack=lgbm \(the extra lgbm; .*pip install lightgbm"):
        check_installed("lgbm")
    check_installed("hgb")
    with pytest.raises(ConfigError, match="one of logistic, hgb, lgbm, got 'xgb'; did you mean"):
        check_installed("xgb")
