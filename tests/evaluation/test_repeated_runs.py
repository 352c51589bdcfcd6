from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lesion_exp.evaluation.repeated_runs import repeated


def on_one_split(*jobs: list[float]) -> list[list[tuple[str, float]]]:
    return [[("", value) for value in values] for values in jobs]


def test_it_is_tukeys_test_and_students_interval() -> None:
    jobs = [[0.70, 0.74, 0.71], [0.66, 0.64, 0.69], [0.60, 0.68, 0.63]]
    first, second, third = repeated(on_one_split(*jobs))
    expected = stats.tukey_hsd(*jobs)
    assert first.p_against_best is None
    assert second.p_against_best == pytest.approx(expected.pvalue[0, 1])
    assert third.p_against_best == pytest.approx(expected.pvalue[0, 2])
    pooled = np.mean([np.var(values, ddof=1) for values in jobs]) ** 0.5
    assert first.high is not None
    assert first.high - first.mean == pytest.approx(stats.t.ppf(0.975, 6) * pooled / 3**0.5)
    assert first.deviation == pytest.approx(np.std(jobs[0], ddof=1))


def test_a_job_that_was_run_once_has_the_spread_of_the_others() -> None:
    several, one = repeated(on_one_split([0.5, 0.6, 0.7], [0.55]))
    assert several.low is not None
    assert one.low is not None
    assert one.deviation is None
    assert one.mean - one.low > several.mean - several.low


@pytest.mark.parametrize("jobs", [([0.5], [0.9]), ([0.5, 0.5], [0.9, 0.9])])
def test_without_a_known_spread_nothing_is_claimed(jobs: tuple[list[float], ...]) -> None:
    for found in repeated(on_one_split(*jobs)):
        assert (found.low, found.high, found.p_against_best, found.differs) == (None, None, None, False)


def test_the_lowest_is_best_where_that_is_asked_for() -> None:
    first, second = repeated(on_one_split([2.0, 2.1], [0.3, 0.31]), "minimize", "val/loss")
    assert second.p_against_best is None
    assert first.differs
    assert first.high is not None
    assert first.high > 1


def test_an_interval_of_a_share_stays_between_0_and_1() -> None:
    (found,) = repeated(on_one_split([0.97, 0.99]), metric="val/accuracy")
    assert found.high == 1.0


def test_folds_that_differ_hide_no_difference_between_jobs_that_share_them() -> None:
    folds = [0.4, 0.5, 0.6, 0.7, 0.8]
    jobs = [[(fold, value + shift + 0.002 * (-1) ** fold * shift) for fold, value in enumerate(folds)]
            for shift in (0.0, 0.1)]  # fmt: skip
    worse, _ = repeated(jobs)
    assert worse.differs
    apart = [[(f"{number} {fold}", value) for fold, value in runs] for number, runs in enumerate(jobs)]
    assert not repeated(apart)[0].differs, "on different images it may be the images"


def test_seeds_of_one_fold_count_as_one_and_overlapping_folds_widen_the_interval() -> None:
    folds = [("0", 0.5), ("0", 0.5), ("1", 0.6), ("1", 0.6), ("2", 0.7), ("2", 0.7)]
    (found,) = repeated([folds])
    assert (found.runs, found.mean, found.deviation) == (6, pytest.approx(0.6), pytest.approx(0.1))
    assert found.high is not None
    assert found.high - found.mean == pytest.approx(min(stats.t.ppf(0.975, 2) * 0.1 * (1 / 3 + 1 / 2) ** 0.5, 0.4))


def test_equal_jobs_are_rarely_told_apart() -> None:
    """Five equal jobs with three seeds each: the best is found to be better than any other in about 5% at most."""
    rng = np.random.default_rng(0)
    tests, wrong = 400, 0
    for values in rng.normal(0.6, 0.02, size=(tests, 5, 3)):
        wrong += any(found.differs for found in repeated(on_one_split(*values.tolist())))
    assert wrong / tests < 0.05 + 2 * (0.05 * 0.95 / tests) ** 0.5
