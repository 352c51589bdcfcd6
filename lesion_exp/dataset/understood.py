"""What was understood of a data set's table: lesions, patients, ages, sexes, sites, and the class of each label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import pandas as pd

from lesion_exp.dataset.findings import Finding
from lesion_exp.dataset.table import UNKNOWN, UNLABELLED

_IDS: Final = {"lesion_id": "lesions", "patient_id": "patients"}
_WORDS: Final = ("sex", "site")
SHOWN: Final = 6
"""Values of a column, and labels of a class, that a text lists."""


def understood(table: pd.DataFrame, findings: Iterable[Finding] = ()) -> dict[str, Any]:
    """Returns what was understood of each column, and of the labels, as plain values.

    `columns` has for each column the number of images `known` and `missing`, and in `not_understood` how many values of
    the files were no number, out of range or of unknown meaning. Ids have the number of `values`; ages in years
    `lowest`, `median` and `highest`; sexes and sites the `counts` of their values. `labels` lists each `label` of the
    files with its `class` and its number of `images`; it is empty if the reader does not keep the labels.

    Args:
        table: the table of a data set.
        findings: the findings about its files.
    """
    unread = {name: sum(each.values for each in findings if each.column == name) for name in ("age", *_WORDS)}
    columns: dict[str, dict[str, Any]] = {}
    for name in _IDS:
        columns[name] = _counted(table[name].notna()) | {"values": int(table[name].nunique())}
    ages = table["age"].dropna()
    columns["age"] = _counted(table["age"].notna())
    for key, value in (("lowest", ages.min()), ("median", ages.median()), ("highest", ages.max())):
        columns["age"][key] = None if pd.isna(value) else float(value)
    for name in _WORDS:
        counts = table.loc[table[name] != UNKNOWN, name].value_counts()
        columns[name] = _counted(table[name] != UNKNOWN)
        columns[name]["counts"] = {str(value): int(count) for value, count in counts.items()}
    for name, found in columns.items():
        found["not_understood"] = unread.get(name, 0)
    return {"columns": columns, "labels": _labels(table)}


def column_rows(columns: dict[str, dict[str, Any]]) -> list[tuple[str, str, int, int, int]]:
    """Returns for each column its name, what it says in words, and its numbers `known`, `missing`, `not_understood`."""
    return [
        (name, _in_words(name, found), found["known"], found["missing"], found["not_understood"])
        for name, found in columns.items()
    ]


def labels_in_words(labels: Sequence[dict[str, Any]]) -> list[str]:
    """Returns for each class a line with the labels that count as it, and one line for labels that are class names.

    For example, `mel: the labels 'Melanoma' (34), 'MM' (2)` and `names as in the files: bcc, nv`.
    """
    by_class: dict[str, list[tuple[str, int]]] = {}
    for each in labels:
        by_class.setdefault(each["class"], []).append((each["label"], each["images"]))
    same = [name for name, found in by_class.items() if [label for label, _ in found] == [name]]
    lines = [
        f"{name}: the labels {_listed([f'{label!r} ({images:,})' for label, images in found])}"
        for name, found in by_class.items()
        if name not in same
    ]
    return [*lines, *([f"names as in the files: {_listed(same)}"] if same else [])]


def _counted(known: pd.Series) -> dict[str, Any]:
    return {"known": int(known.sum()), "missing": int((~known).sum())}


def _labels(table: pd.DataFrame) -> list[dict[str, Any]]:
    if "raw_label" not in table:
        return []
    labels = table["diagnosis"] if "diagnosis" in table else table["label"]
    named = table[table["raw_label"].notna() & (labels != UNLABELLED)]
    pairs = Counter(zip(labels[named.index].astype(str), named["raw_label"].astype(str), strict=True))
    ordered = sorted(pairs.items(), key=lambda found: (found[0][0], -found[1], found[0][1]))
    return [{"label": raw, "class": label, "images": count} for (label, raw), count in ordered]


def _in_words(name: str, found: dict[str, Any]) -> str:
    if not found["known"]:
        return "none known: each image counts as a lesion" if name == "lesion_id" else "none known"
    if name in _IDS:
        return f"{found['values']:,} {_IDS[name]}"
    if name == "age":
        return f"{found['lowest']:g} to {found['highest']:g} years, median {found['median']:g}"
    return _listed([f"{value} {count:,}" for value, count in found["counts"].items()])


def _listed(words: Sequence[str]) -> str:
    more = len(words) - SHOWN
    return ", ".join(words[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
