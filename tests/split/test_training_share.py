"""A share of the training part: by group and class, nested, and without a change of the other parts."""

import pandas as pd
import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.split.training_share import with_training_share


@pytest.fixture
def table():
    """300 images of 150 lesions: 120 of nv, 27 of mel, 3 of df; a third of them outside the training part."""
    lesions = [f"L{number:03}" for number in range(150)]
    label = ["nv"] * 120 + ["mel"] * 27 + ["df"] * 3
    part = [("train", "train", "val", "train", "train", "test")[number % 6] for number in range(150)]
    frame = pd.DataFrame({"group": lesions, "label": label, "split": part})
    frame = pd.concat([frame.assign(row_id=frame["group"] + suffix) for suffix in ("a", "b")], ignore_index=True)
    return frame.sample(frac=1, random_state=0)


def trained(table):
    return table[table["split"] == "train"]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_groups_are_whole_classes_are_kept_and_other_parts_stay(table, share):
    kept = with_training_share(table, share, 0)
    before, after = trained(table), trained(kept)
    assert (after.groupby("group").size() == 2).all()
    for label, groups in before.groupby("label")["group"].nunique().items():
        assert after.loc[after["label"] == label, "group"].nunique() == max(round(share * groups), 1)
    pd.testing.assert_frame_equal(kept[kept["split"] != "train"], table[table["split"] != "train"])


def test_smaller_shares_are_parts_of_larger_ones_and_seeds_draw_others(table):
    small, large, other = (set(trained(with_training_share(table, *draw))["group"]) for draw in
                           ((0.1, 0), (0.5, 0), (0.1, 1)))  # fmt: skip
    assert small < large
    assert small != other
    shuffled = with_training_share(table.sample(frac=1, random_state=3), 0.1, 0)
    assert set(trained(shuffled)["group"]) == small, "whatever the order of the rows"


def test_the_whole_is_the_table_itself(table):
    assert with_training_share(table, 1.0, 0) is table


@pytest.mark.parametrize("share", [0, -0.1, 1.2, True, "half", None])
def test_shares_out_of_range_are_refused(table, share):
    with pytest.raises(ConfigError, match=r"expected split.train_share above 0, up to 1, got"):
        with_training_share(table, share, 0)
