"""Images of classes that the network does not know: in no closed-set metric, and what is measured on them."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from lesion_exp.errors import DataError
from lesion_exp.evaluation.ensemble import ensemble
from lesion_exp.evaluation.evaluation_result import EvaluationOptions, evaluate_table
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.posthoc import fit_on_validation
from lesion_exp.evaluation.predictions import (
    check,
    classes_of,
    known_rows,
    predictions_table,
    probabilities,
    unknown_counts,
    unknown_rows,
)
from lesion_exp.evaluation.stacking import StackOptions, fit_stacking
from lesion_exp.evaluation.unknown import unknown_metrics, unknown_scores

CLASSES = ("bkl", "mel", "nv")
OPTIONS = EvaluationOptions(draws=50)


def opened(rows_of, seed=0, known=200, unknown=60, lesion_ids=None):
    """Predictions on images of three classes, and flatter ones on images of two that the network does not know."""
    rng = np.random.default_rng(seed)
    count = known + unknown
    labels = [*rng.choice(CLASSES, known), *rng.choice(["df", "unk"], unknown)]
    order = rng.permutation(count)
    labels = [str(labels[place]) for place in order]
    rows = rows_of(labels, lesion_ids).assign(is_unknown=~np.isin(labels, CLASSES))
    peak = np.where(rows["is_unknown"], 0.8, 2.0)[:, None]
    shown = np.array([CLASSES.index(label) if label in CLASSES else rng.integers(3) for label in labels])
    logits = rng.normal(size=(count, 3)) + peak * np.eye(3)[shown]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return predictions_table(rows, probs.astype(np.float32), CLASSES, -np.log(np.exp(logits).sum(axis=1)))


@pytest.fixture
def table(rows_of):
    return opened(rows_of)


def at_ones(table, conformal):
    found = unknown_metrics(table, conformal, np.arange(len(table)), len(table))(np.ones((len(table), 1)))
    return {name: float(value[0]) for name, value in found.items()}


def test_the_table_keeps_them_and_its_classes(table):
    assert len(table) == 260
    assert classes_of(table) == CLASSES
    assert [column for column in table if column.startswith("p_")] == ["p_bkl", "p_mel", "p_nv"]
    assert set(unknown_rows(table)["label"]) == {"df", "unk"}
    assert sum(unknown_counts(table).values()) == 60
    assert len(known_rows(table)) == 200
    assert "is_unknown" not in known_rows(table)


def test_no_closed_set_metric_depends_on_them(table):
    judged = evaluate_table(table, None, OPTIONS)
    assert judged.metrics == metrics(known_rows(table))
    alone = evaluate_table(known_rows(table).reset_index(drop=True), None, OPTIONS)
    assert judged.metrics == alone.metrics
    assert {name: found for name, found in judged.estimates.items() if not name.startswith("unknown/")} == (
        alone.estimates
    )
    for name, content in alone.files().items():
        if name != "metrics.json":
            assert judged.files()[name] == content
    assert alone.unknown == {}
    assert alone.note == ""


def test_auroc_is_scikit_learns_and_fpr_is_what_counting_gives(table):
    fitted = fit_on_validation(known_rows(table).reset_index(drop=True))
    found = at_ones(table, fitted.conformal)
    scores = unknown_scores(table, fitted.conformal)
    assert set(scores) == {"max_probability", "energy", "set_size_lac", "set_size_aps"}
    positive = table["is_unknown"].to_numpy()
    for name, score in scores.items():
        assert found[f"auroc/{name}"] == pytest.approx(roc_auc_score(positive, score))
        thresholds = [t for t in [*np.unique(score), np.inf] if (score[~positive] < t).mean() >= 0.95]
        assert found[f"fpr_at_95_tpr/{name}"] == pytest.approx((score[positive] < min(thresholds)).mean())
    assert np.allclose(scores["max_probability"], 1 - probabilities(table).max(axis=1))
    assert np.array_equal(scores["set_size_aps"], fitted.conformal["aps"].sets(probabilities(table)).sum(axis=1))


def test_a_perfect_and_a_useless_score(rows_of):
    labels = ["mel", "nv"] * 20 + ["unk"] * 20
    rows = rows_of(labels).assign(is_unknown=[False] * 40 + [True] * 20)
    probs = np.tile([0.9, 0.1], (60, 1))
    energy = np.where(rows["is_unknown"], 1.0, -1.0)
    found = at_ones(predictions_table(rows, probs, ("mel", "nv"), energy), {})
    assert found["auroc/energy"] == 1
    assert found["fpr_at_95_tpr/energy"] == 0
    assert found["auroc/max_probability"] == 0.5
    assert found["fpr_at_95_tpr/max_probability"] == 1


def test_a_table_without_energies_is_scored_by_the_rest(table):
    found = at_ones(table.drop(columns="energy"), {})
    assert set(found) == {"auroc/max_probability", "fpr_at_95_tpr/max_probability"}


def test_the_study_holds_values_with_intervals_and_says_what_it_left_out(table):
    fitted = fit_on_validation(known_rows(table).reset_index(drop=True))
    judged = evaluate_table(table, fitted, OPTIONS)
    content = json.loads(json.dumps(judged.files()["metrics.json"], allow_nan=False))
    assert content["images"] == 200
    assert content["unknown_images"] == {"images": 60, "classes": unknown_counts(table)}
    for name, value in judged.unknown.items():
        assert content[name]["value"] == value
        assert content[name]["low"] <= value <= content[name]["high"]
    assert {f"unknown/{family}/{score}" for family in ("auroc", "fpr_at_95_tpr") for score in (
        "max_probability", "energy", "set_size_lac", "set_size_aps")} == set(judged.unknown)  # fmt: skip
    assert "60 images of classes that the training part does not have" in judged.note
    assert set(judged.intervals) <= set(judged.metrics)


def test_intervals_of_unknown_scores_are_over_lesions(rows_of):
    one = opened(rows_of, lesion_ids=[f"L{k}" for k in range(260)])
    many = pd.concat(
        [one.assign(row_id=[f"{k}#{copy}" for k in one["row_id"]]) for copy in range(3)], ignore_index=True
    )
    first, second = (evaluate_table(found, None, OPTIONS).estimates["unknown/auroc/energy"] for found in (one, many))
    assert first.value == pytest.approx(second.value)
    assert second.high - second.low == pytest.approx(first.high - first.low, rel=0.35), "copies prove nothing"


def test_members_of_an_ensemble_share_their_energies_and_ranks_of_the_known(rows_of):
    tables = [opened(rows_of), opened(rows_of).sample(frac=1, random_state=1)]
    tables[1] = tables[1].assign(energy=tables[1]["energy"] + 1)
    joined = ensemble("mean", tables)
    assert np.allclose(joined["energy"], tables[0]["energy"] + 0.5)
    assert joined["is_unknown"].tolist() == tables[0]["is_unknown"].tolist()
    ranked = ensemble("rank", tables)
    assert "energy" not in ranked
    closed = ensemble("rank", [known_rows(found).reset_index(drop=True) for found in tables])
    assert np.allclose(probabilities(known_rows(ranked)), probabilities(closed))
    fitted = fit_stacking([known_rows(found).reset_index(drop=True) for found in tables], StackOptions())
    stacked = fitted.stacking.apply(tables)
    assert "energy" not in stacked
    assert evaluate_table(stacked, None, OPTIONS).unknown.keys() == {
        "unknown/auroc/max_probability",
        "unknown/fpr_at_95_tpr/max_probability",
    }


def test_a_label_that_nobody_called_unknown_stays_an_error(table, rows_of):
    wrong = table.assign(label=table["label"].replace("mel", "Mel"))
    with pytest.raises(DataError, match="expected every label to be one of the classes"):
        check(wrong)
    with pytest.raises(DataError, match="expected no class of the network among the labels of images with is_unknown"):
        check(table.assign(label=table["label"].replace("unk", "nv")))
    with pytest.raises(DataError, match="expected true or false in the column is_unknown"):
        check(table.assign(is_unknown="perhaps"))
    with pytest.raises(DataError, match="all 60 are of others"):
        check(unknown_rows(table))
    with pytest.raises(DataError, match="without prediction, energy or p_"):
        predictions_table(rows_of(["mel"]).assign(energy=1.0), np.array([[1.0]]), ("mel",))
