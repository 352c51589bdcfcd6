import numpy as np
import pandas as pd
import pytest

from lesion_exp.verbs.explain.explained_part import KINDS, drawn_positions, gallery_positions


@pytest.fixture
def table():
    """Forty images of two classes out of three; every third is wrong, the later the surer."""
    rows = np.arange(40)
    true = np.where(rows < 30, 0, 2)
    predicted = np.where(rows % 3 == 0, 1, true)
    probs = np.full((40, 3), 0.2)
    probs[rows, predicted] = 0.5 + rows / 100
    probs /= probs.sum(axis=1, keepdims=True)
    names = np.array(["bkl", "mel", "nv"])
    columns = {f"p_{name}": probs[:, position] for position, name in enumerate(names)}
    return pd.DataFrame({"image_id": rows.astype(str), "label": names[true], "prediction": names[predicted], **columns})


def test_each_kind_is_what_it_says_and_no_image_is_shown_twice(table):
    chosen = gallery_positions(table, 4)
    assert list(chosen) == ["bkl", "nv"], "a class without images has no gallery"
    for name, kinds in chosen.items():
        assert tuple(kinds) == KINDS
        shown = np.concatenate(list(kinds.values()))
        assert len(set(shown)) == len(shown)
        assert set(table["label"].iloc[shown]) == {name}
        assert (table["prediction"].iloc[kinds["right"]] == name).all()
        assert (
            table["prediction"].iloc[np.concatenate([kinds["wrong"], kinds["most confident wrong"]])] == "mel"
        ).all()
    assert chosen["bkl"]["most confident wrong"].tolist() == [27, 24, 21, 18]
    assert set(chosen["bkl"]["wrong"]) <= {0, 3, 6, 9, 12, 15}
    assert len(chosen["bkl"]["wrong"]) == 4
    assert chosen["nv"]["most confident wrong"].tolist() == [39, 36, 33, 30]
    assert chosen["nv"]["wrong"].tolist() == []


def test_every_method_is_shown_the_same_images(table):
    first, again = gallery_positions(table, 3), gallery_positions(table, 3)
    assert all(np.array_equal(first[name][kind], again[name][kind]) for name in first for kind in KINDS)


def test_images_are_drawn_from_the_whole_part():
    drawn = drawn_positions(1000, 100)
    assert len(set(drawn)) == 100
    assert (np.diff(drawn) > 0).all()
    assert 400 < drawn.mean() < 600
    assert drawn_positions(5, 100).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [2, 4, 50])
def test_no_gallery_shows_a_lesion_twice(table, count):
    table["lesion_id"] = [f"lesion{row // 4}" for row in range(40)]
    for name, kinds in gallery_positions(table, count).items():
        lesions = table["lesion_id"].iloc[np.concatenate(list(kinds.values()))].tolist()
        assert len(set(lesions)) == len(lesions)
        if count == 50:
            assert set(lesions) == set(table.loc[table["label"] == name, "lesion_id"]), "every lesion is shown"
