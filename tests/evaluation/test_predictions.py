from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lesion_exp.errors import DataError
from lesion_exp.evaluation.predictions import (
    NOT_KEPT,
    check,
    classes_of,
    predicted_classes,
    predictions_table,
    probabilities,
    true_classes,
)

RowsOf = Callable[..., pd.DataFrame]
CLASSES = ["bkl", "mel", "nv"]
PROBS = np.array([[0.2, 0.7, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32)


def test_a_table_has_the_columns_that_others_rely_on(rows_of: RowsOf) -> None:
    table = predictions_table(rows_of(["mel", "bkl"]), PROBS, CLASSES)
    assert list(table.columns) == [
        *("image_id", "row_id", "lesion_id", "patient_id", "label", "prediction", "p_bkl", "p_mel", "p_nv"),
        *("age", "sex", "site", "source"),
    ]
    assert list(table["label"]) == ["mel", "bkl"]
    assert list(table["prediction"]) == ["mel", "nv"]
    assert {str(table[f"p_{name}"].dtype) for name in CLASSES} == {"float32"}
    assert classes_of(table) == ("bkl", "mel", "nv")
    np.testing.assert_array_equal(probabilities(table), PROBS.astype(np.float64))
    np.testing.assert_array_equal(true_classes(table), [1, 0])
    np.testing.assert_array_equal(predicted_classes(table), [1, 2])


def test_rows_keep_their_order_whatever_their_index(rows_of: RowsOf) -> None:
    rows = rows_of(["mel", "bkl"]).set_index(pd.Index([7, 3]))
    table = predictions_table(rows, PROBS, CLASSES)
    assert list(table["image_id"]) == ["img0", "img1"]
    assert list(table["prediction"]) == ["mel", "nv"]


def test_further_columns_follow_at_the_end(rows_of: RowsOf) -> None:
    table = predictions_table(rows_of(["mel", "bkl"]).assign(skin_tone=[1, 5]), PROBS, CLASSES)
    assert table.columns[-1] == "skin_tone"


def test_nothing_of_a_picture_or_of_its_place_follows(rows_of: RowsOf) -> None:
    rows = rows_of(["mel", "bkl"]).assign(
        image_path="/home/ann/a.jpg", mask_path=None, clinical_path="b.jpg", sha256="ab", phash=7, thumbnail=b"\0\1",
        original="C:\\photos\\a.jpg", folder="/home/ann", preview=b"\0", relative=[None, "a/b.jpg"],
        ratio="1/2", device="a.b", site_text="arm/leg",
    )  # fmt: skip
    table = predictions_table(rows, PROBS, CLASSES)
    assert list(table.columns[-3:]) == ["ratio", "device", "site_text"]
    assert not {"original", "folder", "preview", "relative", *NOT_KEPT} & set(table)


def test_a_table_survives_parquet(rows_of: RowsOf, tmp_path: object) -> None:
    table = predictions_table(rows_of(["mel", "bkl"]), PROBS, CLASSES)
    table.to_parquet(f"{tmp_path}/t.parquet")
    again = pd.read_parquet(f"{tmp_path}/t.parquet")
    check(again)
    np.testing.assert_array_equal(probabilities(again), probabilities(table))
    np.testing.assert_array_equal(true_classes(again), true_classes(table))


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        ([[0.2, 0.7, 0.1], [np.nan, 0.1, 0.8]], r"1 of 2 rows contain NaN.*lower optimizer\.lr(.|\n)*img1"),
        ([[0.2, 0.7, 0.1], [5.0, -1.0, 0.2]], r"apply a softmax(.|\n)*img1: sum 4\.2"),
        ([[0.2, 0.7, 0.1], [1.2, -0.3, 0.1]], r"not negative(.|\n)*img1: sum 1, smallest -0\.3"),
        ([[0.2, 0.8], [0.5, 0.5]], r"shape \(2, 3\).*got \(2, 2\)"),
    ],
)
def test_what_are_no_probabilities_is_refused(rows_of: RowsOf, probs: list[list[float]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        predictions_table(rows_of(["mel", "bkl"]), np.array(probs, dtype=np.float32), CLASSES)


def test_an_unknown_label_names_the_nearest_class(rows_of: RowsOf) -> None:
    with pytest.raises(DataError, match=r"got 'mell'; did you mean 'mel'\?"):
        predictions_table(rows_of(["mell", "bkl"]), PROBS, CLASSES)


def test_a_missing_column_is_named(rows_of: RowsOf) -> None:
    with pytest.raises(DataError, match="but sex, site are missing"):
        predictions_table(rows_of(["mel", "bkl"]).drop(columns=["sex", "site"]), PROBS, CLASSES)


def test_a_column_that_would_look_like_a_probability_is_refused(rows_of: RowsOf) -> None:
    with pytest.raises(DataError, match="got p_value; drop them"):
        predictions_table(rows_of(["mel", "bkl"]).assign(p_value=0.1), PROBS, CLASSES)


def test_an_image_that_was_evaluated_twice_is_refused(rows_of: RowsOf) -> None:
    rows = rows_of(["mel", "bkl"]).assign(row_id="img0")
    with pytest.raises(DataError, match=r"every row_id once, but 1 of \d+ rows repeat one(.|\n)*img0"):
        predictions_table(rows, PROBS, CLASSES)


def test_an_empty_table_is_refused(rows_of: RowsOf) -> None:
    with pytest.raises(DataError, match="at least one prediction"):
        predictions_table(rows_of(["mel"]).iloc[:0], PROBS[:0], CLASSES)


def test_a_table_without_probabilities_is_refused() -> None:
    with pytest.raises(DataError, match="a column p_<class> for each class, got the columns label"):
        classes_of(pd.DataFrame({"label": ["mel"]}))
