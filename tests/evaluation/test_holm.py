from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from lesion_exp.evaluation.paired_tests import holm


def test_a_case_worked_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_one_value_stays_and_none_above_1() -> None:
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_missing_values_stay_missing_and_do_not_count() -> None:
    assert holm([None, 0.01, None, 0.02]) == [None, 0.02, None, 0.02]


def test_it_is_bonferroni_over_every_subset() -> None:
    """By its derivation as a closed test: the adjusted value is the largest of min(p in S) |S| over sets S with it."""
    p_values = list(np.random.default_rng(0).random(6) ** 2)
    places = range(len(p_values))
    sets = [chosen for size in range(1, 7) for chosen in combinations(places, size)]
    expected = [
        max(min(1.0, len(chosen) * min(p_values[i] for i in chosen)) for chosen in sets if place in chosen)
        for place in places
    ]
    assert holm(p_values) == pytest.approx(expected)
