from lesion_exp.split.audit import audit
from lesion_exp.split.groups import DEFAULT_THRESHOLD
from lesion_exp.split.overlap import overlap
from lesion_exp.verbs.audit.quotation import quotation
from tests.split.conftest import table_of


def quoted(table):
    table = table.assign(split=["train", "train", "test", "test"])
    found = overlap(table, "test", "train", DEFAULT_THRESHOLD)
    return quotation("made", audit(table, DEFAULT_THRESHOLD), [found], None)


def test_the_paragraph_has_sizes_shares_and_ways():
    assert quoted(table_of(["mel", "nv"] * 2, lesions=["A", "B", "A", "C"], contents=[0, 1, 0, 2])) == (
        "The split of made has 2 training images of 2 lesions and 2 test images of 2 lesions. Of the 2 test images, 1 "
        "(50.0%) is touched by the training part: 1 by the lesion and 1 by a byte-identical image."
    )


def test_no_lesions_are_claimed_where_none_are_named():
    assert quoted(table_of(["mel", "nv"] * 2)) == (
        "The split of made has 2 training images and 2 test images. The data set names neither lesions nor patients, "
        "so only pictures could be compared. No test image shows a lesion, patient or picture of the training part."
    )
