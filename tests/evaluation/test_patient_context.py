from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lesion_exp.evaluation.patient_context import LARGEST_Z, PatientContext, groups_of


def by_hand(values: np.ndarray, patient: list[str | None], lesion: list[str], row: int) -> tuple[float, float, float]:
    """Difference, z-score and rank of a row among the means of its patient's other lesions."""
    others = sorted({lesion[i] for i in range(len(lesion)) if patient[i] == patient[row]} - {lesion[row]})
    means = [np.nanmean([values[i] for i in range(len(lesion)) if lesion[i] == name]) for name in others]
    difference = values[row] - np.mean(means)
    z = difference / np.std(means, ddof=1) if len(means) > 1 else np.nan
    rank = np.mean([1.0 if mean < values[row] else 0.5 if mean == values[row] else 0.0 for mean in means])
    return difference, z, rank


def test_the_statistics_are_those_by_hand() -> None:
    rng = np.random.default_rng(0)
    patient = ["a"] * 9 + ["b"] * 5 + ["c"] * 2
    lesion = ["a1", "a1", "a2", "a3", "a3", "a3", "a4", "a5", "a6", "b1", "b2", "b2", "b3", "b4", "c1", "c2"]
    values = rng.normal(100, 3, len(patient))
    order = rng.permutation(len(patient))
    table = pd.DataFrame({"patient_id": np.array(patient)[order], "lesion_id": np.array(lesion)[order]})
    found = PatientContext.of(table).compared(values[order])
    expected = np.array([by_hand(values, patient, lesion, row) for row in order])
    np.testing.assert_allclose(found, np.clip(expected, [-np.inf, -LARGEST_Z, 0], [np.inf, LARGEST_Z, 1]), atol=1e-9)


def test_ranks_of_equal_values_and_scores_without_a_deviation() -> None:
    table = pd.DataFrame({"patient_id": ["a"] * 4, "lesion_id": list("wxyz")})
    found = PatientContext.of(table).compared(np.array([1.0, 1.0, 1.0, 2.0]))
    np.testing.assert_allclose(found[:, 2], [1 / 3, 1 / 3, 1 / 3, 1.0])
    np.testing.assert_allclose(found[:, 0], [-1 / 3, -1 / 3, -1 / 3, 1.0])
    assert np.isnan(found[3, 1]), "the three others are equal"
    assert np.isfinite(found[:3, 1]).all()


def test_what_is_unknown_has_no_context() -> None:
    table = pd.DataFrame({"patient_id": ["a", "a", None, "b", "c", "c"], "lesion_id": ["1", "2", "3", "4", "5", "6"]})
    context = PatientContext.of(table)
    found = context.compared(np.array([1.0, 3.0, 2.0, 5.0, np.nan, 1.0]))
    np.testing.assert_allclose(found[:2, 0], [-2.0, 2.0])
    assert np.isnan(found[2:]).all(), "no patient, no other lesion, no value, and no other lesion with a value"
    np.testing.assert_equal(context.num_lesions, [2, 2, np.nan, 1, 2, 2])
    assert not context.is_empty
    assert PatientContext.of(table.assign(patient_id=None)).is_empty
    assert PatientContext.of(table.drop(columns="patient_id")).is_empty


def test_photographs_of_the_own_lesion_are_no_context() -> None:
    table = pd.DataFrame({"patient_id": ["a"] * 3, "lesion_id": ["1", "1", "2"]})
    for own in (0.0, 100.0):
        found = PatientContext.of(table).compared(np.array([3.0, own, 1.0]))
        assert found[0, 0] == pytest.approx(2.0)
    assert PatientContext.of(table).num_lesions.tolist() == [2, 2, 2]


def test_a_number_of_a_lesion_that_two_patients_share_is_a_lesion_of_each() -> None:
    table = pd.DataFrame({"patient_id": ["a", "a", "b", "b"], "lesion_id": ["1", "2", "1", "2"]})
    found = PatientContext.of(table).compared(np.array([1.0, 2.0, 10.0, 40.0]))
    np.testing.assert_allclose(found[:, 0], [-1, 1, -30, 30])


def test_groups_are_patients_else_lesions_else_images() -> None:
    table = pd.DataFrame(
        {
            "patient_id": ["a", "a", None, None, None, "b", None],
            "lesion_id": ["1", "2", "3", "3", None, "4", None],
        }
    )
    group = groups_of(table)
    assert group[0] == group[1]
    assert group[2] == group[3]
    assert len({group[i] for i in (0, 2, 4, 5, 6)}) == 5
    joined = groups_of(table.assign(group=["x", "y", "z", "z", "x", "w", "v"]))
    assert joined[4] == joined[0] == joined[1], "the split put a copy of the patient's image into the same group"
    assert len(set(groups_of(table[[]].assign(row=1)))) == len(table)
