"""Ids in a file of pseudo-labels are found in the data set with and without the name of a set before them."""

from __future__ import annotations

import pandas as pd
import pytest

from lesion_exp.split.audit import audit
from lesion_exp.split.groups import DEFAULT_THRESHOLD, assign_groups
from lesion_exp.split.pseudo_ids import links_by_meant_ids, meant_ids
from lesion_exp.taxonomy import PSEUDO_RUN, PSEUDO_SOURCE

OF_SETS = ("a/7", "b/7", "isic/HAM_0000118")
"""Ids as `dataset=combined` writes them."""


def table_of(make_table, known, new, sources, column="lesion_id"):
    """Rows of a data set with the ids `known`, and new images of a file of pseudo-labels with the ids `new`."""
    table = make_table(["nv"] * (len(known) + len(new)))
    ids = pd.Series([*known, *new], dtype=object)
    return table.assign(
        **{column: ids, PSEUDO_RUN: pd.Series([None] * len(known) + ["r"] * len(new), dtype=object)},
        source=[*sources, *[PSEUDO_SOURCE] * len(new)],
        split="train",
    )


@pytest.mark.parametrize(
    ("known", "sources", "new", "meant"),
    [
        (OF_SETS, ("a", "b", "b"), "7", ["a/7", "b/7"]),
        (OF_SETS, ("a", "b", "b"), "a/7", []),  # equal ids are found anyway
        (OF_SETS, ("a", "b", "b"), "b/8", []),
        (OF_SETS, ("a", "b", "b"), "elsewhere/7", ["a/7", "b/7"]),
        (OF_SETS, ("a", "b", "b"), "HAM_0000118", ["isic/HAM_0000118"]),
        (OF_SETS, ("a", "b", "b"), "isic/HAM_0000118", []),
        (("7", "HAM_0000118"), ("csv", "csv"), "clinic/7", ["7"]),
        (("7", "HAM_0000118"), ("csv", "csv"), "csv/7", ["7"]),
        (("7", "HAM_0000118"), ("csv", "csv"), "isic/HAM_0000118", ["HAM_0000118"]),
        (("1/2", "2"), ("csv", "csv"), "1/2", []),
        ((None, "7"), ("csv", "csv"), None, []),
    ],
)
@pytest.mark.parametrize("column", ["lesion_id", "patient_id"])
def test_an_id_means_those_that_differ_in_the_name_of_a_set_alone(make_table, known, sources, new, meant, column):
    table = table_of(make_table, known, [new], sources, column)
    assert meant_ids(table, column).tolist() == meant
    assert len(links_by_meant_ids(table)) == len(meant)


def test_images_of_the_archive_are_the_same_in_all_data(make_table):
    known, new = ("b/ISIC_0024306", "b/c", "a/c"), ("pseudo/ISIC_0024306.jpg", "pseudo/new/c")
    table = table_of(make_table, known, new, ("b", "b", "a"), "image_id")
    assert meant_ids(table, "image_id").to_dict() == {3: "b/ISIC_0024306"}


def test_the_rows_are_joined_and_labelled_ones_are_joined_by_nothing(make_table):
    table = table_of(make_table, OF_SETS, ("7", "9"), ("a", "b", "b"))
    apart = assign_groups(table, DEFAULT_THRESHOLD)
    joined = assign_groups(table, DEFAULT_THRESHOLD, links_by_meant_ids(table))
    assert apart.nunique() == 5
    assert joined.tolist() == [joined[0], joined[0], table["image_id"][2], joined[0], table["image_id"][4]]
    labelled = table[table[PSEUDO_RUN].isna()]
    assert links_by_meant_ids(labelled).shape == (0, 2)
    assert links_by_meant_ids(labelled.drop(columns=PSEUDO_RUN)).shape == (0, 2)


@pytest.mark.parametrize(("column", "kind"), [("lesion_id", "lesions"), ("patient_id", "patients")])
def test_the_audit_finds_them_in_two_parts(make_table, column, kind):
    table = table_of(make_table, OF_SETS, ("HAM_0000118",), ("a", "b", "b"), column)
    assert audit(table, DEFAULT_THRESHOLD).crossings[kind].count == 0
    table.loc[2, "split"] = "test"
    found = audit(table, DEFAULT_THRESHOLD).crossings[kind]
    assert (found.count, list(found.cases)) == (1, ["isic/HAM_0000118"])
