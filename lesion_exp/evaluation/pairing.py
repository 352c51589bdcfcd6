"""Predictions of several models brought into one order, or refused where they are not on the same images."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lesion_exp.errors import DataError, first_cases
from lesion_exp.evaluation.predictions import check, classes_of


def aligned(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The predictions tables, by the names of their models, each with the rows of the first in its order.

    Raises:
        DataError: a table is no predictions table, or two differ in their classes, images, labels or lesions.
    """
    for table in tables.values():
        check(table)
    (first_name, first), *others = ((name, table.set_index(_key(table))) for name, table in tables.items())
    found = {first_name: first.reset_index()}
    for name, table in others:
        _refuse_other_classes(first_name, first, name, table)
        _refuse_other_images(first_name, first, name, table)
        table = table.loc[first.index]
        _refuse_other_values("label", first_name, first, name, table)
        _refuse_other_values("lesion_id", first_name, first, name, table)
        found[name] = table.reset_index()
    return found


def _key(table: pd.DataFrame) -> str:
    key = "row_id" if "row_id" in table else "image_id"
    if key not in table:
        raise DataError("expected a column row_id or image_id in a predictions table, got neither")
    return key


def _refuse_other_classes(first_name: str, first: pd.DataFrame, name: str, table: pd.DataFrame) -> None:
    if classes_of(first) != classes_of(table):
        raise DataError(
            f"expected runs with the same classes, but {first_name} has {', '.join(classes_of(first))} and "
            f"{name} has {', '.join(classes_of(table))}; compare runs of one task and one set of classes"
        )


def _refuse_other_images(first_name: str, first: pd.DataFrame, name: str, table: pd.DataFrame) -> None:
    missing, extra = first.index.difference(table.index), table.index.difference(first.index)
    if len(missing) or len(extra):
        cases = [
            f"{len(rows):,} images of {owner} are not in {other}, such as {rows[0]}"
            for rows, owner, other in ((missing, first_name, name), (extra, name, first_name))
            if len(rows)
        ]
        raise DataError(
            f"expected runs on the same images, but {first_name} has {len(first):,}, {name} has {len(table):,}, and "
            f"they share {len(first.index.intersection(table.index)):,}:\n{first_cases(cases)}\n"
            f"A difference between other images says nothing about the models."
        )


def _refuse_other_values(column: str, first_name: str, first: pd.DataFrame, name: str, table: pd.DataFrame) -> None:
    if column not in first and column not in table:
        return
    if (column in first) != (column in table):
        without = name if column in first else first_name
        raise DataError(f"expected the column {column} in the predictions of both runs, but {without} has none")
    left, right = first[column], table[column]
    other = ~((left == right) | (left.isna() & right.isna())).to_numpy(dtype=bool)
    if other.any():
        cases = [
            f"{index}: {one} in {first_name}, {two} in {name}"
            for index, one, two in zip(first.index[other], left[other], right[other], strict=True)
        ]
        raise DataError(
            f"expected the same {column} of every image, but {len(cases):,} of {len(first):,} differ; the runs were "
            f"tested against different truths:\n{first_cases(cases)}"
        )
