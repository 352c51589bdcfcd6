import numpy as np
import pandas as pd
import pytest

from lesion_exp.data import copy_search
from lesion_exp.data.copy_search import copy_ids

TABLE = pd.DataFrame({"image_id": ["d", "b", "c", "a", "b"], "sha256": ["4", "2", "3", "1", "2"]}, index=range(10, 15))


class Store:
    """A store whose picture of an image is its row."""

    def rows(self, image_ids):
        return np.array(["abcd".index(name) for name in image_ids])

    def read(self, row):
        return row


@pytest.fixture
def searched(monkeypatch, tmp_path):
    calls = []

    def search(read, count, progress, scratch):
        assert scratch == tmp_path
        calls.append([read(place) for place in range(count)])
        return pd.DataFrame({"first": [0, 1], "second": [1, 3], "inliers": [20, 30]})

    monkeypatch.setattr(copy_search, "copied_pairs", search)
    return calls


def test_copies_of_copies_have_the_id_of_the_first_and_are_searched_once(searched, tmp_path):
    found = copy_ids(TABLE, Store(), tmp_path)
    assert found.index.equals(TABLE.index)
    assert found.fillna("none").tolist() == ["a", "a", "none", "a", "a"]
    again = copy_ids(TABLE[::-1], Store(), tmp_path)
    assert again.equals(found[::-1])
    assert searched == [[0, 1, 2, 3]]


def test_other_contents_are_searched_anew(searched, tmp_path):
    copy_ids(TABLE, Store(), tmp_path)
    copy_ids(TABLE.assign(sha256=["4", "5", "3", "1", "5"]), Store(), tmp_path)
    assert len(searched) == 2
