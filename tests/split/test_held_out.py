import pandas as pd
import pytest

from lesion_exp.choices import WAYS_TO_SPLIT as WAYS
from lesion_exp.errors import ConfigError
from lesion_exp.split.audit import audit
from lesion_exp.split.held_out import HeldOut

RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}
THRESHOLD = 0.985


def splitter(way="grouped", held_out=0.2, seed=0, samples=None):
    return HeldOut(seed, held_out, way, RATIOS, samples)


@pytest.mark.parametrize("way", WAYS)
def test_the_clean_part_is_the_same_whatever_happens_to_the_rest_and_shares_nothing_with_it(lesions_table, way):
    clean, rest = splitter(way).clean_rows(lesions_table), splitter(way).split(lesions_table)
    assert list(clean["image_id"]) == list(splitter().clean_rows(lesions_table)["image_id"])
    once = rest.drop_duplicates("image_id")
    both = pd.concat([once.assign(split="train"), clean.assign(split="test")], ignore_index=True)
    assert audit(both, THRESHOLD).passed
    assert len(clean) == pytest.approx(0.2 * len(lesions_table), abs=8)


def test_the_rest_is_split_as_its_way_says(lesions_table):
    audits = {way: audit(splitter(way).split(lesions_table), THRESHOLD) for way in WAYS}
    assert audits["grouped"].passed
    assert audits["grouped"].test_rows_with_lesion_in_train["all"] == 0
    assert audits["by_image"].test_rows_with_image_in_train["all"] == 0
    assert audits["by_image"].test_rows_with_lesion_in_train["all"] > 0.2
    assert audits["resample_then_split"].test_rows_with_image_in_train["all"] > 0.7
    assert set(splitter("grouped").split(lesions_table)["image_id"]) | set(
        splitter().clean_rows(lesions_table)["image_id"]
    ) == set(lesions_table["image_id"])


def test_classes_have_their_share_in_the_clean_part_and_the_seed_draws_another(lesions_table):
    clean = splitter().clean_rows(lesions_table)
    share = clean["label"].value_counts() / lesions_table["label"].value_counts()
    assert share.between(0.1, 0.3).all()
    assert set(clean["image_id"]) != set(splitter(seed=1).clean_rows(lesions_table)["image_id"])


def test_shares_and_ways_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"split\.held_out between 0 and 1, got 1"):
        splitter(held_out=1)
    with pytest.raises(ConfigError, match="did you mean 'by_image'"):
        splitter("by_imag")
