from __future__ import annotations

from typing import Any

import pandas as pd

from lesion_exp.dataset.findings import collected_findings
from lesion_exp.dataset.table import map_labels, standardize
from lesion_exp.dataset.understood import column_rows, labels_in_words, understood

ROWS = {
    "image_id": ["a", "b", "c", "d", "e"],
    "found": ["Melanoma", "MM", "melanoma", "bcc", "MM"],
    "lesion_id": ["L1", "L1", "L2", None, "L3"],
    "age": ["50", "fifty", "400", None, "61,5"],
    "sex": ["f", "m", "alien", None, "w"],
    "site": ["back", "Back", None, "arm", "unknown"],
}
CODES = {"melanoma": "mel", "MM": "mel", "bcc": "bcc"}


def read(**columns: list[str | None]) -> Any:
    frame = pd.DataFrame({**ROWS, **columns})
    with collected_findings() as found:
        table = standardize(map_labels(frame, "found", CODES).drop(columns="found"), "clinic")
    return understood(table, found)


def test_each_column_says_what_was_known_missing_and_not_understood() -> None:
    rows = {name: rest for name, *rest in column_rows(read()["columns"])}
    assert rows == {
        "lesion_id": ["3 lesions", 4, 1, 0],
        "patient_id": ["none known", 0, 5, 0],
        "age": ["50 to 61.5 years, median 55.75", 2, 3, 2],
        "sex": ["female 2, male 1, alien 1", 4, 1, 1],
        "site": ["back 2, arm 1", 3, 2, 0],
    }


def test_without_lesions_each_image_is_said_to_count_as_one() -> None:
    rows = column_rows(read(lesion_id=[None] * 5, age=[None] * 5)["columns"])
    assert rows[0] == ("lesion_id", "none known: each image counts as a lesion", 0, 5, 0)
    assert rows[2] == ("age", "none known", 0, 5, 0)


def test_labels_are_listed_with_their_class() -> None:
    labels = read()["labels"]
    assert labels == [
        {"label": "bcc", "class": "bcc", "images": 1},
        {"label": "MM", "class": "mel", "images": 2},
        {"label": "Melanoma", "class": "mel", "images": 1},
        {"label": "melanoma", "class": "mel", "images": 1},
    ]
    assert labels_in_words(labels) == [
        "mel: the labels 'MM' (2), 'Melanoma' (1), 'melanoma' (1)",
        "names as in the files: bcc",
    ]


def test_a_reader_that_keeps_no_labels_has_none_to_list() -> None:
    assert understood(standardize(pd.DataFrame({"image_id": ["a"], "label": ["mel"]}), "clinic"))["labels"] == []


def test_labels_are_those_of_the_diagnosis_where_the_task_is_malignancy() -> None:
    frame = pd.DataFrame(ROWS)
    table = standardize(map_labels(frame, "found", CODES).drop(columns="found"), "clinic")
    malignant = table.assign(diagnosis=table["label"], label="malignant")
    assert understood(malignant)["labels"] == understood(table)["labels"]
