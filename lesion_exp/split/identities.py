"""Warnings about ids, images and labels of a table that contradict one another."""

from __future__ import annotations

from typing import Final

import pandas as pd

LEAST_SHARE: Final = 0.1
"""Smallest share of a source's images with the same id for a warning that the id may mean "unknown"."""
LEAST_IMAGES: Final = 10
"""Smallest number of images with the same id for that warning."""
TIMES_MEDIAN: Final = 10
"""For that warning, the id must have more than this many times as many images as the median of the other ids."""
SHOWN: Final = 5
"""Cases that a warning lists."""


def identity_warnings(table: pd.DataFrame) -> list[str]:
    """Returns a sentence, with counts and cases, for each kind of contradiction in `table`.

    The kinds are lesions with several diagnoses, identical images with several labels, lesions of several patients,
    and ids of so many images that they may mean "unknown".

    Args:
        table: a table with the columns of `dataset.table` and `sha256`.
    """
    images = table.drop_duplicates("image_id")
    label = "diagnosis" if "diagnosis" in images else "label"
    return [
        *_several_diagnoses(images, label),
        *_contradicting_pictures(images, label),
        *_shared_lesions(images),
        *(text for column in ("patient_id", "lesion_id") for text in _implausible_shares(images, column)),
    ]


def _several_diagnoses(images: pd.DataFrame, label: str) -> list[str]:
    several = _groups_with_several(images, "lesion_id", label)
    if several.empty:
        return []
    cases = [f"{lesion} ({_listed(rows[label])})" for lesion, rows in several.groupby("lesion_id", sort=True)]
    return [
        f"{_counted(len(cases), 'lesion has', 'lesions have')} images of several classes, though a lesion has one "
        f"diagnosis; check lesion_id and the labels. For example {_first(cases)}"
    ]


def _contradicting_pictures(images: pd.DataFrame, label: str) -> list[str]:
    several = _groups_with_several(images, "sha256", label)
    if several.empty:
        return []
    cases = [
        " = ".join(f"{image_id} ({name})" for image_id, name in zip(rows["image_id"], rows[label], strict=True))
        for _, rows in several.sort_values("image_id").groupby("sha256", sort=False)
    ]
    return [
        f"{_counted(len(cases), 'image occurs', 'images occur')} several times, byte by byte, with different labels, "
        f"of which only one can be right; correct them, or leave files out by dataset.ignore. For example "
        f"{_first(cases)}"
    ]


def _shared_lesions(images: pd.DataFrame) -> list[str]:
    several = _groups_with_several(images, "lesion_id", "patient_id")
    if several.empty:
        return []
    cases = [f"{lesion} ({_listed(rows['patient_id'])})" for lesion, rows in several.groupby("lesion_id", sort=True)]
    return [
        f"{_counted(len(cases), 'lesion belongs', 'lesions belong')} to several patients, who therefore become one "
        f"group; if lesions are numbered within each patient, put the patient's id before the number. For example "
        f"{_first(cases)}"
    ]


def _implausible_shares(images: pd.DataFrame, column: str) -> list[str]:
    warnings = []
    for source, rows in images.groupby("source", sort=True):
        counts = rows[column].value_counts()
        for name, count in counts.items():
            share, others = count / len(rows), counts.drop(name)
            if share < LEAST_SHARE or count < LEAST_IMAGES:
                break  # the most frequent come first
            if len(others) and count > TIMES_MEDIAN * others.median():
                warnings.append(
                    f"{count:,} of the {len(rows):,} images of {source} ({share:.0%}) have the {column} {name!r}, the "
                    f"other ids {others.median():g} each (median); these images stay together in one part. If this id "
                    f'means "unknown", empty these cells of the table'
                )
    return warnings


def _groups_with_several(images: pd.DataFrame, column: str, of: str) -> pd.DataFrame:
    """Returns the images of each value of `column` that has several values in the column `of`."""
    known = images[images[column].notna() & images[of].notna()]
    return known[known.groupby(column)[of].transform("nunique") > 1]


def _listed(names: pd.Series) -> str:
    found = sorted(set(names.astype(str)))
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def _first(cases: list[str]) -> str:
    return "; ".join(cases[:SHOWN]) + (f"; and {len(cases) - SHOWN} more" if len(cases) > SHOWN else "")


def _counted(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"
