from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from lesion_exp.errors import DataError
from lesion_exp.evaluation.pairing import aligned

MakeTable = Callable[..., pd.DataFrame]


def test_rows_come_in_the_order_of_the_first(make_table: MakeTable) -> None:
    first = make_table(40)
    found = aligned({"A": first, "B": first.sample(frac=1, random_state=0)})
    pd.testing.assert_frame_equal(found["A"], found["B"])
    assert list(found["B"]["image_id"]) == list(first["image_id"])
    assert list(found["B"].columns) == list(first.columns)


def test_other_images_are_refused_with_their_number(make_table: MakeTable) -> None:
    table = make_table(40)
    message = r"expected runs on the same images, but A has 30, B has 35, and they share 25:"
    with pytest.raises(DataError, match=message) as caught:
        aligned({"A": table[:30], "B": table[5:]})
    assert "5 images of A are not in B, such as img0" in str(caught.value)
    assert "10 images of B are not in A" in str(caught.value)


@pytest.mark.parametrize("column", ["label", "lesion_id"])
def test_other_truths_are_refused_with_the_images(make_table: MakeTable, column: str) -> None:
    first, second = make_table(40), make_table(40)
    second.loc[7, column] = "nv" if first.loc[7, column] != "nv" else "mel"
    with pytest.raises(DataError, match=rf"same {column} of every image, but 1 of 40 differ") as caught:
        aligned({"A": first, "B": second})
    assert "img7" in str(caught.value)


def test_other_classes_are_refused(make_table: MakeTable) -> None:
    with pytest.raises(DataError, match=r"same classes, but A has .* and B has mel, nv"):
        aligned({"A": make_table(40), "B": make_table(40, shares={"mel": 0.5, "nv": 0.5})})


def test_images_without_lesion_are_no_difference(make_table: MakeTable) -> None:
    table = make_table(40).assign(lesion_id=None)
    assert len(aligned({"A": table, "B": table.copy()})["B"]) == 40


def test_a_table_without_lesions_is_not_paired_with_one_that_has_them(make_table: MakeTable) -> None:
    table = make_table(40)
    with pytest.raises(DataError, match=r"column lesion_id .* B has none"):
        aligned({"A": table, "B": table.drop(columns="lesion_id")})
