from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lesion_exp.evaluation.pairing import pooled

VALUES = np.array([0.70, 0.74, 0.71, 0.66, 0.64])


def constant(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:, None], 50, axis=1)


def test_without_an_error_of_lesions_it_is_students_test() -> None:
    first, second = [0, 1, 2], [3, 4]
    found = pooled(VALUES, constant(VALUES), [first, second], 100)
    expected = stats.ttest_ind(VALUES[first], VALUES[second])
    interval = expected.confidence_interval(0.95)
    assert found.p_of(found.value) == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_the_mean_of_one_group_has_students_interval() -> None:
    found = pooled(VALUES, constant(VALUES), [[0, 1, 2]], 100)
    half = stats.t.ppf(0.975, 2) * VALUES[:3].std(ddof=1) / 3**0.5
    assert (found.value, found.high - found.value) == pytest.approx((VALUES[:3].mean(), half))


def test_without_a_spread_of_seeds_it_is_the_error_of_lesions() -> None:
    rng = np.random.default_rng(0)
    values = np.array([0.7, 0.7, 0.6, 0.6])
    draws = values[:, None] + rng.normal(0, 0.02, (4, 5000))
    found = pooled(values, draws, [[0, 1], [2, 3]], 400)
    half = stats.t.ppf(0.975, 399) * 0.02  # (0.02^2 / 2 + 0.02^2 / 2)^0.5
    assert (found.value, found.high - found.value) == pytest.approx((0.1, half), rel=0.03)


def test_single_runs_have_the_quantiles_of_the_draws() -> None:
    draws = np.stack([np.linspace(0, 1, 1001), np.zeros(1001)])
    found = pooled(np.array([0.5, 0.0]), draws, [[0], [1]], 100)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.025, 0.975))
    assert found.p_of(0.5) is None


def test_equal_runs_are_equal() -> None:
    values = np.full(4, 0.7)
    found = pooled(values, constant(values), [[0, 1], [2, 3]], 100)
    assert (found.value, found.low, found.high, found.p_of(found.value)) == (0, 0, 0, 1.0)


def test_intervals_of_pooled_runs_hold_the_truth_as_often_as_they_say() -> None:
    """Two jobs that are equally good: 3 seeds each, errors of seeds and of lesions."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        of_lesions = rng.normal(0, 0.02, 2)  # a job's error on these lesions, shared by its seeds
        values = np.repeat(of_lesions, 3) + rng.normal(0, 0.02, 6)
        draws = values[:, None] + np.repeat(rng.normal(0, 0.02, (2, 300)), 3, axis=0)
        found = pooled(values, draws, [[0, 1, 2], [3, 4, 5]], 300)
        held += found.low <= 0 <= found.high
    assert 0.92 <= held / 400 <= 0.99
