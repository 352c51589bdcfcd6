import numpy as np
import pandas as pd
import pytest

from lesion_exp.verbs.explain.explanation_report import MEASURES, estimates, measures


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"lesion_id": np.repeat([f"l{n}" for n in range(30)], 2), "label": ["mel", "nv"] * 30})
    rows["prediction"] = np.where(np.arange(60) < 40, rows["label"], "mel")
    for measure in MEASURES:
        rows[measure] = np.repeat(rng.random(30), 2)
    rows.loc[0, "share_inside"] = np.nan
    return rows


def test_means_are_over_the_images_that_have_a_value(table):
    found = estimates(table, draws=200, seed=0)
    right = table[table["label"] == table["prediction"]]
    groups = {"all": table, "right": right, "wrong": table.drop(right.index), "mel": table[table["label"] == "mel"]}
    assert set(found) == {*groups, "nv"}
    for group, rows in groups.items():
        for measure in MEASURES:
            estimate = found[group][measure]
            assert estimate.value == pytest.approx(rows[measure].mean())
            assert estimate.low < estimate.value < estimate.high


def test_images_of_a_lesion_are_no_more_evidence_than_one(table):
    once = table[1::2].reset_index(drop=True)
    both, alone = (estimates(rows, draws=2000, seed=0)["all"]["mask_share"] for rows in (table, once))
    assert both == pytest.approx(alone)


def test_a_group_in_which_nothing_is_known_is_left_out(table):
    nothing = table.assign(**dict.fromkeys(MEASURES, np.nan))
    assert estimates(nothing, draws=100, seed=0) == {}


def test_an_even_map_scores_what_chance_scores():
    mask = np.zeros((10, 10), dtype=bool)
    mask[3:8, 3:7] = True
    found = measures(np.ones((10, 10), dtype=np.float32), mask)
    assert found == pytest.approx({"pointing_game": 0.2, "share_inside": 0.2, "mask_share": 0.2, "centre_in_mask": 1.0})
