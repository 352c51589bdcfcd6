import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.split import PARTS
from lesion_exp.split.audit import audit
from lesion_exp.split.grouped import Grouped
from lesion_exp.split.manifest import split_hash

RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}
THRESHOLD = 0.985
ids = st.one_of(st.none(), st.integers(0, 60).map(str))
rows = st.lists(st.tuples(st.sampled_from(["mel", "nv", "df"]), ids, ids, st.integers(0, 60)), min_size=12, max_size=60)


def grouped(seed=0, ratios=RATIOS):
    return Grouped(seed=seed, ratios=ratios)


def counts_of(table):
    return pd.crosstab(table["label"], table["split"]).reindex(columns=list(PARTS), fill_value=0)


@given(rows, st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_no_group_crosses_and_the_audit_passes_for_any_table(make_table, drawn, seed):
    labels, lesions, patients, contents = map(list, zip(*drawn, strict=True))
    table = make_table(labels, lesions, patients, contents)
    try:
        split = grouped(seed).split(table)
    except DataError:  # so much hangs together that a part stays empty
        return
    assert (split.groupby("group")["split"].nunique() == 1).all()
    for column in ("lesion_id", "patient_id", "sha256"):
        assert (split.dropna(subset=[column]).groupby(column)["split"].nunique() == 1).all()
    assert set(split["split"]) == set(PARTS)
    assert audit(split, THRESHOLD).passed


@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=20)
def test_the_order_of_rows_does_not_matter(lesions_table, random):
    order = list(range(len(lesions_table)))
    random.shuffle(order)
    straight = grouped().split(lesions_table)
    shuffled = grouped().split(lesions_table.iloc[order])
    assert shuffled.loc[straight.index, "split"].equals(straight["split"])
    assert split_hash(shuffled) == split_hash(straight)


def test_seeds_differ_and_repeat(lesions_table):
    hashes = [split_hash(grouped(seed).split(lesions_table)) for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("seed", range(5))
def test_every_class_comes_near_the_ratios(lesions_table, seed):
    counts = counts_of(grouped(seed).split(lesions_table))
    for part, ratio in RATIOS.items():
        wanted = ratio * counts.sum(axis=1)
        assert ((counts[part] - wanted).abs() <= 2).all()


@given(sizes=st.lists(st.integers(1, 9), min_size=3, max_size=12), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=50)
def test_a_class_with_three_groups_or_more_is_in_every_part(make_table, sizes, seed):
    lesions = [f"mel{k}" for k, size in enumerate(sizes) for _ in range(size)]
    labels = ["mel"] * len(lesions) + ["nv"] * 40
    table = make_table(labels, lesions + [f"nv{k}" for k in range(40)])
    assert (counts_of(grouped(seed).split(table)) > 0).all(axis=None)


@pytest.mark.parametrize("seed", range(4))
def test_a_class_with_one_lesion_is_trained_on_and_warned_of(make_table, seed):
    table = make_table(["nv"] * 40 + ["df"] * 3, [f"L{k}" for k in range(40)] + ["D"] * 3)
    split = grouped(seed).split(table)
    assert set(split.loc[split["label"] == "df", "split"]) == {"train"}
    warnings = audit(split, THRESHOLD).warnings
    assert "val has no image of df" in warnings
    assert "test has no image of df" in warnings
    assert any("df has 1 group" in warning for warning in warnings)


def test_all_classes_with_one_lesion_are_trained_on(make_table):
    labels = ["nv"] * 40 + ["df"] * 3 + ["vasc"] * 2 + ["bcc"]
    table = make_table(labels, [f"L{k}" for k in range(40)] + ["D"] * 3 + ["V"] * 2 + ["B"])
    split = grouped().split(table)
    assert set(split.loc[split["label"] != "nv", "split"]) == {"train"}


def test_patients_with_several_classes_stay_whole_and_balanced(make_table):
    rng = np.random.default_rng(5)
    patients = [f"P{number}" for number in rng.integers(0, 90, 600)]
    labels = [str(name) for name in rng.choice(["bcc", "mel", "nv"], 600, p=[0.1, 0.2, 0.7])]
    split = grouped().split(make_table(labels, patients=patients))
    assert (split.groupby("patient_id")["split"].nunique() == 1).all()
    shares = counts_of(split).div(counts_of(split).sum(axis=1), axis=0)
    for part, ratio in RATIOS.items():
        assert shares[part].between(ratio - 0.06, ratio + 0.06).all()


def test_the_table_keeps_its_rows_and_columns(lesions_table):
    split = grouped().split(lesions_table)
    assert split[lesions_table.columns].equals(lesions_table)
    assert list(split.columns) == [*lesions_table.columns, "split"]


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ({"train": 0.7, "val": 0.2, "test": 0.2}, "add up to 1"),
        ({"train": 1.2, "val": -0.1, "test": -0.1}, "add up to 1"),
        ({"train": 0.85, "val": 0.15, "test": 0.0}, "above 0"),
        ({"train": 0.8, "test": 0.2}, "train, val and test"),
        ({"train": 0.8, "val": 0.1, "tset": 0.1}, "train, val and test"),
    ],
)
def test_ratios_that_are_no_split_are_refused(ratios, said):
    with pytest.raises(ConfigError, match=said):
        grouped(ratios=ratios)


def test_a_part_that_stays_empty_is_an_error(make_table):
    with pytest.raises(DataError, match=r"val and test are empty: 6 images in 1 groups"):
        grouped().split(make_table(["nv"] * 3 + ["mel"] * 3, patients=["P"] * 6))
