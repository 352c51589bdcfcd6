from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lesion_exp.dataset.table import (
    STANDARD_COLUMNS,
    map_labels,
    mark_leaks,
    one_hot_label,
    require_columns,
    standardize,
)
from lesion_exp.errors import DataError


def test_standard_columns_come_first_and_missing_ones_are_filled() -> None:
    table = standardize(pd.DataFrame({"thickness": [1.5], "label": ["nv"], "image_id": ["a"]}), "mine")
    assert list(table.columns) == [*STANDARD_COLUMNS, "thickness"]
    row = table.iloc[0]
    assert (row["row_id"], row["source"], row["sex"], row["site"]) == ("a", "mine", "unknown", "unknown")
    assert row["lesion_id"] is None
    assert row["image_path"] is None
    assert np.isnan(row["age"])


def test_missing_values_become_none_or_unknown_and_age_zero_stays() -> None:
    frame = pd.DataFrame(
        {
            "image_id": ["a", "b", "c"],
            "label": ["nv"] * 3,
            "lesion_id": ["L1", np.nan, " "],
            "sex": ["Male", "NaN", None],
            "age": ["0", "", "85"],
        }
    )
    table = standardize(frame, "mine")
    assert table["lesion_id"].tolist() == ["L1", None, None]
    assert table["sex"].tolist() == ["male", "unknown", "unknown"]
    assert table["age"].fillna(-1).tolist() == [0, -1, 85]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 1], ["0", "1"]),
        ([1.0, np.nan], ["1", None]),
        ([True, False], ["True", "False"]),
        (["nv", None], ["nv", None]),
        (np.array([3, 4], dtype=np.int8), ["3", "4"]),
    ],
)
def test_labels_that_are_numbers_become_names_of_classes(labels: list[object], names: list[str | None]) -> None:
    table = standardize(pd.DataFrame({"image_id": ["a", "b"], "label": labels}), "mine")
    assert table["label"].astype(object).where(table["label"].notna(), None).tolist() == names


def test_paths_may_be_path_objects_and_nothing_else() -> None:
    frame = pd.DataFrame({"image_id": ["a", "b"], "label": "nv", "image_path": [Path("/data/a.jpg"), None]})
    assert standardize(frame, "mine")["image_path"].tolist() == [str(Path("/data/a.jpg")), None]
    with pytest.raises(DataError, match=r"paths .* in the column mask_path .* got 7 \(int\)"):
        standardize(frame.assign(mask_path=pd.Series([None, 7], dtype=object)), "mine")


def test_ages_that_are_no_numbers_are_said(caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame({"image_id": ["a", "b", "c"], "label": "nv", "age": ["forty", "unknown", "30"]})
    table = standardize(frame, "mine")
    assert table["age"].fillna(-1).tolist() == [-1, -1, 30]
    assert "age of mine: 1 are not numbers and count as missing: 'forty' (1 rows)" in caplog.text


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(DataError, match="at least one image of mine"):
        standardize(pd.DataFrame({"image_id": [], "label": []}), "mine")


def test_labels_are_mapped_without_regard_to_case_and_unknown_ones_kept_raw() -> None:
    frame = map_labels(pd.DataFrame({"dx": ["NV ", "mole", None]}), "dx", {"nv": "nv"})
    assert frame["label"].tolist() == ["nv", None, None]
    assert frame["raw_label"].tolist() == ["NV", "mole", ""]


def test_one_hot() -> None:
    frame = pd.DataFrame({"MEL": [1.0, 0.0], "NV": [0.0, 1.0]})
    assert one_hot_label(frame, ["MEL", "NV"], "gt.csv").tolist() == ["MEL", "NV"]


@pytest.mark.parametrize("bad", [[0.0, 0.0], [1.0, 1.0], ["x", 0.0], [1.0, "yes"], ["", None]])
def test_rows_that_are_not_one_hot_are_refused(bad: list[object]) -> None:
    frame = pd.DataFrame([[1.0, 0.0], bad], columns=["MEL", "NV"])
    with pytest.raises(DataError, match=r"1 rows differ:\s+- row 2: .*\ncorrect these cells"):
        one_hot_label(frame, ["MEL", "NV"], "gt.csv")


def test_one_hot_cells_are_numbers_truth_values_or_empty(caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame({"MEL": ["1,0", "FALSE", "n/a", "0.4"], "NV": ["0,0", "TRUE", "1", "0.6"]})
    assert one_hot_label(frame.head(3), ["MEL", "NV"], "gt.csv").tolist() == ["MEL", "NV", "NV"]
    assert not caplog.records
    assert one_hot_label(frame, ["MEL", "NV"], "gt.csv").tolist()[-1] == "NV"
    assert "2 cells of MEL, NV in gt.csv are neither 0 nor 1" in caplog.text


def test_labels_that_differ_in_blanks_are_one_class() -> None:
    frame = map_labels(
        pd.DataFrame({"dx": ["basal  cell carcinoma", "Basal cell\tcarcinoma "]}), "dx", {"basal cell  carcinoma": "b"}
    )
    assert frame["label"].tolist() == ["b", "b"]


def test_a_full_name_is_taken_for_the_class_that_contains_it() -> None:
    codes = {code: code for code in ("akiec", "bkl", "nv")}
    names = pd.DataFrame({"dx": ["Actinic keratoses", "Seborrheic keratosis", "melanoma", "Melanosis"]})
    assert map_labels(names, "dx", codes)["label"].tolist() == ["akiec", "bkl", None, None]
    apart = map_labels(names, "dx", {**codes, "ak": "ak"})
    assert apart["label"].tolist() == ["ak", "bkl", None, None]


def test_leaking_columns_get_the_prefix() -> None:
    frame = mark_leaks(pd.DataFrame(columns=["iddx_1", "iddx_full", "age"]), "iddx_*")
    assert list(frame.columns) == ["leaks_iddx_1", "leaks_iddx_full", "age"]


def test_missing_columns_are_listed_with_what_is_there() -> None:
    frame = pd.DataFrame(columns=["a", "b", "Label"])
    with pytest.raises(DataError, match=r"expected the columns c, d in t\.csv, got a, b, Label"):
        require_columns(frame, ["a", "c", "d"], "t.csv")
    with pytest.raises(DataError, match="rename 'Label' to 'label'"):
        require_columns(frame, ["label"], "t.csv")


def test_the_name_of_a_code_of_the_set_is_that_label_and_said(caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame({"dx": ["Melanoma", "NV", "actinic keratosis"]})
    with caplog.at_level("INFO"):
        labelled = map_labels(frame, "dx", {"mel": "mel", "nv": "nv"})
    assert labelled["label"].tolist() == ["mel", "nv", None]
    assert "1 rows with the label 'Melanoma' count as mel" in caplog.text
    assert map_labels(frame, "dx", {"mel": "mel"}, names=False)["label"].tolist() == [None] * 3


def test_labels_are_compared_in_one_normal_form() -> None:
    frame = pd.DataFrame({"dx": ["na\u0308vus", "n\u00e4vus\u200b"]})
    assert map_labels(frame, "dx", {"Na\u0308vus": "nv"})["label"].tolist() == ["nv", "nv"]


@pytest.mark.parametrize(("columns", "missing"), [(["image_id"], "no label"), (["dx"], "no image_id and no label")])
def test_a_reader_that_forgets_a_column_is_told_which(columns: list[str], missing: str) -> None:
    frame = pd.DataFrame([["a"] * len(columns)], columns=columns)
    with pytest.raises(DataError, match=rf"image_id and label in .* reader of mine .* {missing}, only {columns[0]};"):
        standardize(frame, "mine")
