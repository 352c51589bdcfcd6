from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lesion_exp.evaluation.decision_curve import THRESHOLDS, decision_curve, net_benefit
from lesion_exp.evaluation.figures.curves import decision_curve_figure
from lesion_exp.evaluation.predictions import predictions_table

MakeTable = Callable[..., pd.DataFrame]
RowsOf = Callable[..., pd.DataFrame]


def of_scores(rows_of: RowsOf, labels: str, scores: list[float]) -> pd.DataFrame:
    names = ["malignant" if sign == "+" else "benign" for sign in labels]
    return predictions_table(rows_of(names), np.array([[1 - p, p] for p in scores]), ["benign", "malignant"])


def test_net_benefit_by_hand(rows_of: RowsOf) -> None:
    """At 0.3: TP 1, FP 2 of 5 images: 1/5 - 2/5 * 3/7."""
    table = of_scores(rows_of, "++---", [0.9, 0.1, 0.8, 0.4, 0.2])
    found = net_benefit(table, "malignant", np.arange(5), 5)(np.ones((5, 1)))
    assert found["0.3"][0] == pytest.approx(1 / 5 - 2 / 5 * 3 / 7)
    assert found["0.6"][0] == pytest.approx(1 / 5 - 1 / 5 * 6 / 4)


def test_a_model_that_always_acts_has_the_benefit_of_everyone(rows_of: RowsOf) -> None:
    curve = decision_curve(of_scores(rows_of, "+----", [1.0] * 5), "malignant", draws=50)
    assert curve.prevalence == pytest.approx(0.2)
    assert [found.value for found in curve.model] == pytest.approx(curve.everyone)


def test_a_perfect_model_has_the_prevalence_and_a_silent_one_nothing(rows_of: RowsOf) -> None:
    perfect = decision_curve(of_scores(rows_of, "++---", [1.0, 1.0, 0.0, 0.0, 0.0]), "malignant", draws=50)
    assert {found.value for found in perfect.model} == {0.4}
    silent = decision_curve(of_scores(rows_of, "++---", [0.0] * 5), "malignant", draws=50)
    assert {found.value for found in silent.model} == {0.0}


def test_the_curve_of_a_malignant_view_can_be_drawn(make_table: MakeTable) -> None:
    curve = decision_curve(make_table(300), "malignant", draws=100)
    assert len(curve.model) == len(THRESHOLDS)
    for found in curve.model:
        assert found.low <= found.value <= found.high
    lines = decision_curve_figure(curve).axes[0].get_lines()
    np.testing.assert_allclose(lines[0].get_ydata(), [found.value for found in curve.model])
