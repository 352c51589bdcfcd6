from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from lesion_exp.errors import DataError
from lesion_exp.evaluation.malignant_view import scores_of, targets
from lesion_exp.evaluation.posthoc import OperatingPoint, fit_operating_points, operating_point_metrics
from lesion_exp.evaluation.predictions import predictions_table

MakeTable = Callable[..., pd.DataFrame]
RowsOf = Callable[..., pd.DataFrame]


def at_itself(table: pd.DataFrame, points: list[OperatingPoint]) -> dict[str, float]:
    at = operating_point_metrics(table, points, np.arange(len(table)), len(table))
    return {name: float(value[0]) for name, value in at(np.ones((len(table), 1))).items()}


def two_classes(rows_of: RowsOf, labels: str, scores: list[float]) -> pd.DataFrame:
    names = ["mel" if sign == "+" else "nv" for sign in labels]
    return predictions_table(rows_of(names), np.array([[score, 1 - score] for score in scores]), ["mel", "nv"])


def test_thresholds_by_hand(rows_of: RowsOf) -> None:
    """10 melanomas at 0.90 ... 0.81 but for one at 0.30; 10 nevi, one at 0.85 and the others at 0.1."""
    scores = [0.90, 0.89, 0.88, 0.87, 0.86, 0.84, 0.83, 0.82, 0.81, 0.30, 0.85, *[0.1] * 9]
    table = two_classes(rows_of, "+" * 10 + "-" * 10, scores)
    found = {point.rule: point for point in fit_operating_points(table) if point.target == "mel"}
    assert found["sensitivity_90"].threshold == pytest.approx(0.81)
    assert (found["sensitivity_90"].sensitivity, found["sensitivity_90"].specificity) == (0.9, 0.9)
    assert found["sensitivity_95"].threshold == pytest.approx(0.30)
    assert found["specificity_90"].threshold == pytest.approx(0.30)
    assert found["specificity_95"].threshold == pytest.approx(0.86)
    assert found["specificity_95"].sensitivity == 0.5
    assert found["youden"].threshold == pytest.approx(0.30)  # 1 + 0.9


def test_points_promise_on_validation_what_they_say(make_table: MakeTable) -> None:
    table = make_table(800, skill=1.5, decimals=1)
    points = fit_operating_points(table)
    assert {point.target for point in points} == {*targets(("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"))}
    found = at_itself(table, points)
    for point in points:
        assert found[f"{point.name}/sensitivity"] == pytest.approx(point.sensitivity)
        assert found[f"{point.name}/specificity"] == pytest.approx(point.specificity)
        family, _, share = point.rule.partition("_")
        if share:
            assert getattr(point, family) >= int(share) / 100 - 1e-9
        else:
            false, true, _ = reference.roc_curve(*reversed(scores_of(table, point.target)))
            assert point.sensitivity + point.specificity - 1 == pytest.approx((true - false).max())


def test_other_images_are_judged_by_the_fixed_threshold(rows_of: RowsOf) -> None:
    point = OperatingPoint("mel", "youden", 0.4, 1.0, 1.0)
    found = at_itself(two_classes(rows_of, "+++--", [0.9, 0.4, 0.3, 0.5, 0.1]), [point])
    assert found == pytest.approx(
        {
            "mel/youden/sensitivity": 2 / 3,
            "mel/youden/specificity": 1 / 2,
            "mel/youden/ppv": 2 / 3,
            "mel/youden/npv": 1 / 2,
        }
    )


def test_a_class_without_cases_has_no_points(make_table: MakeTable) -> None:
    table = make_table(100, {"a": 0.5, "b": 0.5, "c": 0.0})
    assert {point.target for point in fit_operating_points(table)} == {"a", "b"}
    assert at_itself(table, []) == {}


def test_a_question_that_cannot_be_asked_is_refused(make_table: MakeTable) -> None:
    with pytest.raises(DataError, match=r"one of a, b as target, got 'malignant'"):
        scores_of(make_table(10, {"a": 0.5, "b": 0.5}), "malignant")
