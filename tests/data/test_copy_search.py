import cv2
import numpy as np
import pandas as pd
import pytest

from lesion_exp.data import copy_search
from lesion_exp.data.copy_search import copy_ids


@pytest.fixture
def table(tmp_path):
    """Images a to d of the grey values 0 to 3, one of them in two rows."""
    for grey, name in enumerate("abcd"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((4, 4, 3), grey, np.uint8))
    names = ["d", "b", "c", "a", "b"]
    paths = [str(tmp_path / f"{name}.png") for name in names]
    return pd.DataFrame(
        {"image_id": names, "sha256": ["4", "2", "3", "1", "2"], "image_path": paths}, index=range(10, 15)
    )


@pytest.fixture
def searched(monkeypatch, tmp_path):
    calls = []

    def search(read, count, progress, scratch):
        assert scratch == tmp_path
        calls.append([int(read(place).max()) for place in range(count)])
        return pd.DataFrame({"first": [0, 1], "second": [1, 3], "inliers": [20, 30]})

    monkeypatch.setattr(copy_search, "copied_pairs", search)
    return calls


def test_copies_of_copies_have_the_id_of_the_first_and_are_searched_once(searched, table, tmp_path):
    found = copy_ids(table, tmp_path)
    assert found.index.equals(table.index)
    assert found.fillna("none").tolist() == ["a", "a", "none", "a", "a"]
    again = copy_ids(table[::-1], tmp_path)
    assert again.equals(found[::-1])
    assert searched == [[0, 1, 2, 3]]


def test_other_contents_are_searched_anew(searched, table, tmp_path):
    copy_ids(table, tmp_path)
    copy_ids(table.assign(sha256=["4", "5", "3", "1", "5"]), tmp_path)
    assert len(searched) == 2
