import pytest

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.split.audit import audit
from lesion_exp.split.official import Official

THRESHOLD = 0.985


def official(val_ratio=0.2, seed=0):
    return Official(seed, val_ratio)


@pytest.fixture
def published(lesions_table):
    """A set whose test part is every fifth lesion."""
    is_test = lesions_table["lesion_id"].str[1:].astype(int) % 5 == 0
    return lesions_table.assign(official_split=is_test.map({True: "test", False: "train"}))


def test_published_parts_are_kept_and_validation_is_a_grouped_slice_of_train(published):
    split = official().split(published)
    assert (split["split"] == "test").equals(published["official_split"] == "test")
    train, val = ((split["split"] == part).sum() for part in ("train", "val"))
    assert abs(val / (train + val) - 0.2) < 0.02
    assert audit(split, THRESHOLD).passed


def test_a_published_validation_part_is_kept(published):
    parts = published["official_split"].mask(published.index % 7 == 0, "val")
    assert official().split(published.assign(official_split=parts))["split"].tolist() == parts.tolist()


def test_lesions_that_cross_in_the_published_parts_fail_the_audit(published):
    torn = published.assign(official_split=["test" if row % 2 else "train" for row in range(len(published))])
    assert not audit(official().split(torn), THRESHOLD).passed


def test_a_set_without_published_parts_says_so(lesions_table, published):
    with pytest.raises(DataError, match="use split=grouped"):
        official().split(lesions_table)
    with pytest.raises(DataError, match=r"the parts are: train.*dataset.parts=\[train,test\]"):
        official().split(published.assign(official_split="train"))
    with pytest.raises(DataError, match="3 of 400 images have none"):
        official().split(published.assign(official_split=published["official_split"].where(published.index > 2, None)))


def test_a_ratio_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="val_ratio"):
        official(val_ratio=0)
