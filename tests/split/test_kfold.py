import pandas as pd
import pytest

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.split.audit import audit
from lesion_exp.split.kfold import KFold

THRESHOLD = 0.985


def fold_split(table, fold, num_folds=5, seed=0):
    return KFold(seed, num_folds, fold, val_ratio=0.15).split(table)


def test_folds_are_the_same_whichever_is_tested_and_each_image_is_tested_once(lesions_table):
    splits = [fold_split(lesions_table, fold) for fold in range(5)]
    assert all(split["fold"].equals(splits[0]["fold"]) for split in splits)
    tested = pd.concat([split.loc[split["split"] == "test", "image_id"] for split in splits])
    assert sorted(tested) == sorted(lesions_table["image_id"])
    for fold, split in enumerate(splits):
        assert (split["fold"][split["split"] == "test"] == fold).all()


@pytest.mark.parametrize("fold", range(5))
def test_no_group_crosses_and_classes_are_spread(lesions_table, fold):
    split = fold_split(lesions_table, fold)
    assert audit(split, THRESHOLD).passed
    counts = pd.crosstab(split["label"], split["split"])
    assert (counts > 0).all(axis=None)
    assert ((counts["test"] - counts.sum(axis=1) / 5).abs() <= 2).all()
    rest = counts["train"] + counts["val"]
    assert ((counts["val"] - 0.15 * rest).abs() <= 2).all()


def test_seeds_give_other_folds_and_rows_may_come_in_any_order(lesions_table):
    straight = fold_split(lesions_table, 1)
    shuffled = fold_split(lesions_table.sample(frac=1, random_state=2), 1).loc[straight.index]
    assert shuffled[["fold", "split"]].equals(straight[["fold", "split"]])
    assert not fold_split(lesions_table, 1, seed=1)["fold"].equals(straight["fold"])


@pytest.mark.parametrize("arguments", [{"fold": 5}, {"fold": -1}, {"num_folds": 1, "fold": 0}, {"val_ratio": 1.0}])
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(ConfigError, match="expected split"):
        KFold(**{"seed": 0, "num_folds": 5, "fold": 0, "val_ratio": 0.15} | arguments)


def test_more_folds_than_groups_leave_one_empty(make_table):
    with pytest.raises(DataError, match=r"empty.*use more images, fewer split\.num_folds or another split\.val_ratio$"):
        fold_split(make_table(["nv", "mel", "nv", "mel"]), 7, num_folds=8)
