import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion_exp.split.groups import assign_groups

THRESHOLD = 0.985
ids = st.one_of(st.none(), st.integers(0, 6).map(str))
rows = st.lists(st.tuples(ids, ids, st.integers(0, 20)), min_size=1, max_size=40)


def built(make_table, drawn):
    lesions, patients, contents = map(list, zip(*drawn, strict=True))
    return make_table(["nv"] * len(drawn), lesions, patients, contents)


def sets_of(table, group):
    return {frozenset(images) for images in table["image_id"].groupby(group.to_numpy()).agg(list)}


def reference(table):
    """Groups by joining, again and again, whatever shares a known value."""
    groups = [{row} for row in range(len(table))]
    for column in ("lesion_id", "patient_id", "sha256"):
        for value in table[column].dropna().unique():
            together = set(np.flatnonzero((table[column] == value).to_numpy()))
            touched = [group for group in groups if group & together]
            groups = [group for group in groups if not group & together] + [set().union(*touched)]
    names = table["image_id"].to_numpy()
    return {frozenset(names[list(group)]) for group in groups}


@given(rows)
@settings(deadline=None, max_examples=50)
def test_groups_are_what_chains_of_equal_values_join(make_table, drawn):
    table = built(make_table, drawn)
    assert sets_of(table, assign_groups(table, THRESHOLD)) == reference(table)


@given(rows, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_names_do_not_depend_on_the_order_of_rows(make_table, drawn, random):
    table = built(make_table, drawn)
    order = list(range(len(table)))
    random.shuffle(order)
    group = assign_groups(table, THRESHOLD)
    assert assign_groups(table.iloc[order], THRESHOLD).sort_index().equals(group)


def test_a_missing_id_joins_nothing(make_table):
    table = make_table(["nv"] * 3, [None, np.nan, None])
    assert assign_groups(table, THRESHOLD).nunique() == 3


def test_a_patient_known_in_some_rows_of_a_lesion_takes_the_others_along(make_table):
    table = make_table(["nv"] * 5, ["L1", "L1", "L2", None, "L3"], ["P1", None, "P1", "P1", None])
    assert assign_groups(table, THRESHOLD).tolist() == ["img0000"] * 4 + ["img0004"]


def test_what_two_sets_of_one_archive_share_is_one_group(make_table):
    table = make_table(["nv"] * 5, ["isic/1", "isic/1", None, None, "b/1"]).assign(source=["a", "b", "a", "b", "b"])
    assert assign_groups(table, THRESHOLD).nunique() == 4
    shared = table.assign(shared_image_id=[None, "isic/7", "isic/9", "isic/9", "isic/7"])
    assert assign_groups(shared, THRESHOLD).nunique() == 2


def test_near_duplicates_with_different_lesions_are_one_group(make_picture, make_table_of_pictures):
    images = [make_picture(1), make_picture(2), make_picture(1)[:, ::-1]]
    table = make_table_of_pictures(images).assign(lesion_id=["A", "B", "C"])
    assert assign_groups(table, THRESHOLD).tolist() == ["img0000", "img0001", "img0000"]


def test_a_chain_is_one_group(make_table):
    count = 300
    table = make_table(["nv"] * count, [f"L{k // 2}" for k in range(count)], [f"P{(k + 1) // 2}" for k in range(count)])
    assert assign_groups(table, THRESHOLD).nunique() == 1
    assert isinstance(assign_groups(table, THRESHOLD), pd.Series)
