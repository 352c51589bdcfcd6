from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.conformal import ConformalSets, conformal_metrics, fit_conformal
from lesion_exp.evaluation.predictions import predictions_table, probabilities

MakeTable = Callable[..., pd.DataFrame]
RowsOf = Callable[..., pd.DataFrame]


def at_itself(table: pd.DataFrame, fitted: ConformalSets) -> dict[str, float]:
    at = conformal_metrics(table, fitted, np.arange(len(table)), len(table))
    return {name: float(value[0]) for name, value in at(np.ones((len(table), 1))).items()}


def of_two(rows_of: RowsOf, true_probs: list[float], lesions: list[str] | None = None) -> pd.DataFrame:
    """All images are `a`, with these probabilities of it."""
    probs = np.array([[p, 1 - p] for p in true_probs])
    names = lesions or [f"l{i}" for i in range(len(true_probs))]
    return predictions_table(rows_of(["a"] * len(true_probs), names), probs, ["a", "b"])


def test_the_threshold_is_the_quantile_of_split_conformal_prediction(rows_of: RowsOf) -> None:
    """9 lesions and alpha 0.2: the ceil(10 * 0.8) = 8th smallest score 1 - p."""
    table = of_two(rows_of, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.1])
    assert fit_conformal(table, "lac", 0.2).threshold == pytest.approx(1 - 0.25, abs=1e-6)
    assert fit_conformal(table, "lac", 0.5).threshold == pytest.approx(1 - 0.5, abs=1e-6)


def test_too_few_lesions_for_the_promise_give_sets_of_all_classes(rows_of: RowsOf) -> None:
    fitted = fit_conformal(of_two(rows_of, [0.9] * 8), "lac", 0.1)  # 8 / 9 of the mass is below 0.9
    assert fitted.threshold == float("inf")
    assert fitted.sets(np.array([[0.99, 0.01]])).all()
    assert ConformalSets.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def test_a_lesion_of_many_images_counts_once(rows_of: RowsOf) -> None:
    """Nine times the same hard image of one lesion moves the quantile no more than once."""
    easy = [0.9, 0.8, 0.7, 0.6]
    once = of_two(rows_of, [*easy, 0.1])
    often = of_two(rows_of, [*easy, *[0.1] * 9], ["l0", "l1", "l2", "l3", *["l4"] * 9])
    for alpha in (0.2, 0.4, 0.6):
        assert fit_conformal(often, "lac", alpha).threshold == fit_conformal(once, "lac", alpha).threshold


def test_adaptive_sets_by_hand(rows_of: RowsOf) -> None:
    fitted = ConformalSets("aps", 0.1, 0.7, ("a", "b", "c"), 10)
    probs = np.array([[0.5, 0.3, 0.2], [0.9, 0.06, 0.04], [0.4, 0.35, 0.25]])
    expected = [[True, True, False], [True, False, False], [True, True, False]]
    np.testing.assert_array_equal(fitted.sets(probs), expected)
    scores_of_true = fit_conformal(
        predictions_table(rows_of(["a", "b", "c"], ["x", "y", "z"]), probs, ["a", "b", "c"]), "aps", 0.5
    )
    assert scores_of_true.threshold == pytest.approx(0.75, abs=1e-6)  # scores 0, 0.9, 0.75; ceil(4 * 0.5) = 2nd


def test_adaptive_sets_hold_classes_of_equal_probability_together_or_not_at_all(rows_of: RowsOf) -> None:
    """Whatever their places: a score is the sum of the probabilities that are larger, for both classes of a tie."""
    probs = np.array([[0.4, 0.2, 0.2, 0.2], [0.2, 0.4, 0.2, 0.2], [0.25, 0.25, 0.25, 0.25], [0.1, 0.3, 0.3, 0.3]])
    for threshold, sizes in ((0.3, [1, 1, 4, 3]), (0.4, [4, 4, 4, 3]), (0.9, [4, 4, 4, 4])):
        sets = ConformalSets("aps", 0.1, threshold, ("a", "b", "c", "d"), 10).sets(probs)
        assert sets.sum(axis=1).tolist() == sizes, threshold
    table = predictions_table(rows_of(["b", "c", "d"], ["x", "y", "z"]), probs[[0, 0, 0]], ["a", "b", "c", "d"])
    assert fit_conformal(table, "aps", 0.5).threshold == pytest.approx(0.4)


@pytest.mark.parametrize("method", ConformalSets.METHODS)
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_promise_is_kept_on_average_over_validation_parts(make_table: MakeTable, method: str, alpha: float) -> None:
    """Mean over 40 draws of 100 lesions: at least 1 - alpha, and for lac not much more."""
    table = make_table(4000, skill=1.0)
    rng = np.random.default_rng(0)
    lesions = table["lesion_id"].unique()
    coverage = []
    for _ in range(40):
        chosen = table["lesion_id"].isin(rng.choice(lesions, 100, replace=False))
        coverage.append(at_itself(table[~chosen], fit_conformal(table[chosen], method, alpha))["coverage"])
    assert np.mean(coverage) > 1 - alpha - 0.01
    if method == "lac":
        assert np.mean(coverage) < 1 - alpha + 0.02


def test_sets_of_a_better_network_are_smaller(make_table: MakeTable) -> None:
    good, poor = (make_table(1000, skill=skill) for skill in (4.0, 1.0))
    for method in ConformalSets.METHODS:
        found = [at_itself(table, fit_conformal(table, method, 0.1)) for table in (good, poor)]
        assert found[0]["set_size"] < 0.7 * found[1]["set_size"]
        assert found[0]["singletons"] > found[1]["singletons"]


def test_coverage_of_classes_adds_up(table: pd.DataFrame) -> None:
    found = at_itself(table, fit_conformal(table, "lac", 0.1))
    shares = table["label"].value_counts(normalize=True)
    assert found["coverage"] == pytest.approx(sum(shares[name] * found[f"coverage/{name}"] for name in shares.index))
    assert found["set_size"] == pytest.approx(
        fit_conformal(table, "lac", 0.1).sets(probabilities(table)).sum(axis=1).mean()
    )


def test_mistakes_are_named(table: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match=r"one of lac, aps, got 'asp'"):
        fit_conformal(table, "asp")
    with pytest.raises(ConfigError, match=r"conformal_alpha between 0 and 1, got 10"):
        fit_conformal(table, "lac", 10)


def test_values_of_another_kind_are_no_conformal_sets(table: pd.DataFrame) -> None:
    whole = fit_conformal(table, "lac", 0.1).to_dict()
    changed: list[Any] = [{**whole, "method": "asp"}, {**whole, "alpha": "x"}, {**whole, "classes": None}, []]
    changed += [{key: value for key, value in whole.items() if key != left_out} for left_out in whole]
    for content in changed:
        with pytest.raises(DataError, match=r"expected conformal sets with the values .* use a run of this version"):
            ConformalSets.from_dict(content)
