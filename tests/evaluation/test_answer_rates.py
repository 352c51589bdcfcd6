import numpy as np
import pandas as pd
import pytest

from lesion_exp.evaluation.answer_rates import answer_rates
from lesion_exp.evaluation.limits import wilson
from lesion_exp.evaluation.predictions import predictions_table

EDGES = (0.0, 0.5, 0.7, 0.9, 1.0)


def table_of(labels, probs, classes, lesions=None):
    names = [f"i{place}" for place in range(len(labels))]
    rows = pd.DataFrame({"label": labels, "lesion_id": lesions or names, "patient_id": None, "age": 50.0})
    rows = rows.assign(image_id=names, row_id=names, sex="female", site="back", source="none")
    return predictions_table(rows, np.array(probs, dtype=np.float32), classes)


def test_a_rate_is_that_of_its_band_with_the_interval_of_its_lesions():
    labels = ["nv"] * 11 + ["mel"] * 24 + ["nv"] * 5
    probs = [[0.4, 0.6]] * 35 + [[0.05, 0.95]] * 5
    rates = answer_rates(table_of(labels, probs, ("mel", "nv")), EDGES)
    very_low, low, moderate, high = rates.right
    assert (very_low, moderate) == (None, None)
    assert (low.value, low.images, low.lesions, low.is_of_few) == (pytest.approx(11 / 35), 35, 35, False)
    assert (low.low, low.high) == pytest.approx(wilson(11 / 35, 34), abs=0.02)
    assert (high.value, high.images, high.high, high.is_of_few) == (1.0, 5, 1.0, True)
    assert high.low < 0.6, "five of five are no certainty"


def test_images_of_one_lesion_count_as_little_as_they_tell():
    labels, probs = ["nv"] * 40 + ["mel"] * 40, [[0.4, 0.6]] * 80
    alone = answer_rates(table_of(labels, probs, ("mel", "nv")), EDGES).right[1]
    lesions = [f"l{place // 4}" for place in range(80)]
    together = answer_rates(table_of(labels, probs, ("mel", "nv"), lesions), EDGES).right[1]
    assert (alone.images, together.images, together.lesions) == (80, 80, 20)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_the_malignant_sensitivity_counts_any_malignant_answer_for_a_malignant_lesion():
    classes = ("bcc", "mel", "nv")
    labels = ["mel", "mel", "bcc", "bcc", "nv"]
    probs = np.eye(3)[[0, 2, 0, 1, 1]] * 0.85 + 0.05
    found = answer_rates(table_of(labels, probs, classes), EDGES).malignant_sensitivity
    assert (found.value, found.images) == (0.75, 4), "mel called bcc is malignant all the same"
    assert answer_rates(table_of(["nv"], [[0.1, 0.1, 0.8]], classes), EDGES).malignant_sensitivity is None
    assert answer_rates(table_of(["a"], [[0.1, 0.9]], ("a", "b")), EDGES).malignant_sensitivity is None


def test_bands_hold_their_lower_edges_and_the_last_its_upper_one():
    probs = [[0.5, 0.5], [0.3, 0.7], [0.25, 0.75], [0.0, 1.0]]
    rates = answer_rates(table_of(["nv"] * 4, probs, ("mel", "nv")), (0.0, 0.5, 0.75, 1.0))
    assert [rate and rate.images for rate in rates.right] == [None, 2, 2]


def test_rates_are_over_patients_where_the_evaluation_is():
    labels, probs = ["nv"] * 40 + ["mel"] * 40, [[0.4, 0.6]] * 80
    patients = [f"p{place // 8}" for place in range(80)]
    table = table_of(labels, probs, ("mel", "nv")).assign(patient_id=patients)
    found = answer_rates(table, EDGES, "patient").right[1]
    together = answer_rates(table.assign(lesion_id=patients), EDGES).right[1]
    assert (found.low, found.high) == (together.low, together.high)
    assert (found.images, found.lesions, found.patients, found.is_of_few) == (80, 80, 10, True)
    assert (together.patients, answer_rates(table, EDGES).right[1].is_of_few) == (None, False)
