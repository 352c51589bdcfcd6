from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lesion_exp.choices import ENSEMBLES as METHODS
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.calibrator import with_probabilities
from lesion_exp.evaluation.ensemble import ensemble
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.predictions import check, probabilities
from tests.independent_models import MakeTable, members


@pytest.mark.parametrize("method", METHODS)
def test_an_ensemble_is_better_than_its_members(make_table: MakeTable, method: str) -> None:
    tables = members(make_table, 1500, 1)
    joined = ensemble(method, tables)
    check(joined)
    best = max(metrics(table)["balanced_accuracy"] for table in tables)
    assert metrics(joined)["balanced_accuracy"] > best + 0.05
    assert metrics(joined)["auroc_macro"] > max(metrics(table)["auroc_macro"] for table in tables) + 0.03


def test_a_model_with_itself_says_what_it_said(make_table: MakeTable) -> None:
    table = members(make_table, 200, 0, 1)[0]
    np.testing.assert_allclose(probabilities(ensemble("mean", [table, table])), probabilities(table), atol=1e-6)


def test_the_mean_by_hand(make_table: MakeTable) -> None:
    tables = members(make_table, 50, 0, 2)
    expected = (probabilities(tables[0]) + probabilities(tables[1])) / 2
    np.testing.assert_allclose(probabilities(ensemble("mean", tables)), expected, atol=1e-6)


def test_ranks_do_not_see_how_certain_a_member_is(make_table: MakeTable) -> None:
    """Any rising change of one member's probabilities of two classes leaves the ensemble as it is."""
    first, second = (make_table(100, {"mel": 0.3, "nv": 0.7}, seed=0, skill=skill) for skill in (1.0, 1.0))
    share = probabilities(second)[:, 0]
    sharper = with_probabilities(second, np.stack([share**3, 1 - share**3], axis=1))
    np.testing.assert_allclose(
        probabilities(ensemble("rank", [first, sharper])), probabilities(ensemble("rank", [first, second])), atol=1e-6
    )
    assert not np.allclose(
        probabilities(ensemble("mean", [first, sharper])), probabilities(ensemble("mean", [first, second])), atol=1e-3
    )


def test_the_order_of_rows_is_the_first_members(make_table: MakeTable) -> None:
    tables = members(make_table, 80, 0, 2)
    shuffled = tables[1].sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(ensemble("mean", [tables[0], shuffled]), ensemble("mean", tables))


def test_tables_that_do_not_belong_together_are_refused(make_table: MakeTable) -> None:
    tables = members(make_table, 40, 0, 2)
    with pytest.raises(
        DataError, match=r"run 1 has 40, run 2 has 39[\s\S]*1 images of run 1 are not in run 2, such as img0\nUse"
    ):
        ensemble("mean", [tables[0], tables[1].iloc[1:]])
    with pytest.raises(DataError, match=r"same classes, but run 1 has bkl, mel, nv and run 2 has mel, nv"):
        ensemble("mean", [tables[0], make_table(40, {"mel": 1, "nv": 1})])
    with pytest.raises(DataError, match=r"the same lesion_id of every image, but 1 of 40 differ"):
        ensemble("mean", [tables[0], tables[1].assign(lesion_id=["other", *tables[1]["lesion_id"][1:]])])
    relabelled = tables[1].assign(label=["mel" if label == "nv" else label for label in tables[1]["label"]])
    with pytest.raises(DataError, match=r"same label of every image, but \d+ of 40 differ"):
        ensemble("mean", [tables[0], relabelled])
    with pytest.raises(ConfigError, match="at least two runs for an ensemble, got 1"):
        ensemble("mean", tables[:1])
    with pytest.raises(ConfigError, match="one of mean, rank, got 'median'"):
        ensemble("median", tables)


def test_predicted_classes_alone_are_not_averaged(make_table: MakeTable) -> None:
    first, second = members(make_table, 40, 0, 2)
    with pytest.raises(DataError, match="run 1 has predicted classes without probabilities; leave it out"):
        ensemble("mean", [first.assign(labels_only=True), second])
    with pytest.raises(DataError, match="run 2 has predicted classes without probabilities; leave it out"):
        ensemble("rank", [first, second.assign(labels_only=True)])
