from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.calibrator import log_probs, with_probabilities
from lesion_exp.evaluation.ensemble import ensemble
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.patient_context import groups_of
from lesion_exp.evaluation.predictions import check, predictions_table, probabilities, true_classes
from lesion_exp.evaluation.stacking import Stacking, StackOptions, fit_stacking
from tests.independent_models import MakeTable, members
from tests.isic_scores import isic_metrics

ALONE = StackOptions(features=("predictions",))
METHODS = ("logistic", "hgb", "lgbm")


def needs(method: str) -> None:
    if method == "lgbm":
        pytest.importorskip("lightgbm")


def ugly_ducklings(
    patients: int = 120, effect: float = 2.0, seed: int = 0, num_members: int = 2, share: float = 0.12
) -> list[pd.DataFrame]:
    """Predictions on patients with 4 to 14 lesions. Every patient has a level of its own, by which probabilities differ
    far more than by `effect`, the log odds by which malignant lesions stand above the patient's others."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(patients):
        for lesion in range(int(rng.integers(4, 15))):
            label = "malignant" if rng.random() < share else "benign"
            rows += [(f"P{number}", f"P{number}L{lesion}", label)] * (1 + (rng.random() < 0.3))
    frame = pd.DataFrame(rows, columns=["patient_id", "lesion_id", "label"])
    frame["image_id"] = frame["row_id"] = [f"I{row}" for row in range(len(frame))]
    frame["age"] = np.where(rng.random(len(frame)) < 0.3, np.nan, rng.integers(3, 17, len(frame)) * 5.0)
    frame["sex"] = rng.choice(["female", "male", "unknown"], len(frame))
    frame["site"], frame["source"] = "back", "generated"
    level = frame["patient_id"].map(dict(zip(frame["patient_id"].unique(), rng.normal(-2, 4, patients), strict=True)))
    tables = []
    for _ in range(num_members):
        odds = level + effect * (frame["label"] == "malignant") + rng.normal(0, 0.4, len(frame))
        second = 1 / (1 + np.exp(-odds))
        tables.append(predictions_table(frame, np.stack([1 - second, second], axis=1), ["benign", "malignant"]))
    return tables


def auroc(table: pd.DataFrame) -> float:
    return metrics(table)["auroc/malignant"]


@pytest.mark.parametrize("method", METHODS)
def test_a_stacked_ensemble_is_better_than_its_members(make_table: MakeTable, method: str) -> None:
    needs(method)
    tables, validation = members(make_table, 1500, 1), members(make_table, 1500, 2)
    fitted = fit_stacking(validation, StackOptions(method, ("predictions",)))
    for joined, alone in ((fitted.stacking.apply(tables), tables), (fitted.table, validation)):
        check(joined)
        assert metrics(joined)["balanced_accuracy"] > max(metrics(t)["balanced_accuracy"] for t in alone) + 0.05
        assert metrics(joined)["auroc_macro"] > max(metrics(t)["auroc_macro"] for t in alone) + 0.03


def test_the_logistic_regression_is_scikit_learns(make_table: MakeTable) -> None:
    tables = members(make_table, 300, 1)
    features = np.concatenate([log_probs(probabilities(t)) for t in tables], axis=1)
    features = np.concatenate(
        [block - block.mean(axis=1, keepdims=True) for block in np.split(features, 3, axis=1)], axis=1
    )
    model = LogisticRegression(max_iter=2000).fit(features, true_classes(tables[0]))
    found = probabilities(fit_stacking(tables, ALONE).stacking.apply(tables))
    np.testing.assert_allclose(found, model.predict_proba(features), atol=1e-6)


def test_the_better_member_of_two_classes_counts_more(make_table: MakeTable) -> None:
    good = make_table(600, {"mel": 0.5, "nv": 0.5}, skill=3.0)
    rng = np.random.default_rng(0).random(600)
    noise = with_probabilities(good, np.stack([rng, 1 - rng], axis=1))
    joined = fit_stacking([good, noise], ALONE).stacking.apply([good, noise])
    assert metrics(joined)["auroc/mel"] == pytest.approx(metrics(good)["auroc/mel"], abs=0.01)
    assert metrics(joined)["auroc/mel"] > metrics(ensemble("mean", [good, noise]))["auroc/mel"]


@pytest.mark.parametrize("method", METHODS)
def test_context_finds_ugly_ducklings(method: str) -> None:
    """About 130 of 1,100 lesions are malignant, so the standard error of an AUROC is 0.03 at most."""
    needs(method)
    tables, others = ugly_ducklings(), ugly_ducklings(seed=1)
    with_context = fit_stacking(tables, StackOptions(method))
    without = fit_stacking(tables, StackOptions(method, ("predictions", "metadata")))
    best = max(map(auroc, [*tables, ensemble("mean", tables)]))
    assert best < 0.7
    assert auroc(without.table) < best + 0.05
    assert auroc(with_context.table) > max(best, auroc(without.table)) + 0.2
    assert auroc(with_context.stacking.apply(others)) > max(map(auroc, others)) + 0.2
    score = "pauc_2024/malignant"
    assert isic_metrics(with_context.table)[score] > isic_metrics(without.table)[score] + 0.04
    assert with_context.importance[0].source == "context: malignant"
    assert with_context.importance[0].increase > 5 * max(abs(i.increase) for i in with_context.importance[1:])


@pytest.mark.parametrize("method", METHODS)
def test_context_finds_nothing_where_nothing_is_planted(method: str) -> None:
    """Malignant lesions have their own level, and patients none: what a lesion's neighbours look like says nothing."""
    needs(method)
    tables = ugly_ducklings(effect=0.0)
    rng = np.random.default_rng(5)
    flat = []
    for table in tables:
        odds = 1.5 * (table["label"] == "malignant") + rng.normal(-1, 1, len(table))
        second = 1 / (1 + np.exp(-odds.to_numpy()))
        flat.append(with_probabilities(table, np.stack([1 - second, second], axis=1)))
    with_context = fit_stacking(flat, StackOptions(method))
    without = fit_stacking(flat, StackOptions(method, ("predictions",)))
    assert auroc(with_context.table) < auroc(without.table) + 0.02


@pytest.mark.parametrize("method", ["logistic", *(pytest.param(m, marks=pytest.mark.slow) for m in ("hgb", "lgbm"))])
def test_labels_at_random_are_not_found_again(method: str) -> None:
    """The whole way with shuffled labels: networks (here logistic regressions on eight random traits and the patient's
    level) in folds over patients, then the stacked ensemble on their held-out predictions. Any leak of a label, through
    the context or the folds, would raise the AUROC. Its standard error is 0.02; the mean over six shuffles has 0.01."""
    needs(method)
    found = []
    base = ugly_ducklings(patients=150, share=0.3)[0]
    patient = pd.factorize(base["patient_id"])[0]
    for seed in range(6):
        rng = np.random.default_rng(seed)
        lesions = base["lesion_id"].unique()
        shuffled = dict(zip(lesions, rng.permutation(base.drop_duplicates("lesion_id")["label"]), strict=True))
        labelled = base.assign(label=base["lesion_id"].map(shuffled))
        traits = np.column_stack([rng.normal(size=(len(base), 8)), rng.normal(size=patient.max() + 1)[patient]])
        true, probs = true_classes(labelled), np.zeros((len(base), 2))
        for train, held_out in GroupKFold(5).split(traits, true, patient):
            probs[held_out] = LogisticRegression().fit(traits[train], true[train]).predict_proba(traits[held_out])
        found.append(auroc(fit_stacking([with_probabilities(labelled, probs)], StackOptions(method)).table))
    assert abs(np.mean(found) - 0.5) < 0.04
    assert max(found) < 0.58


def test_no_image_is_predicted_by_a_model_that_saw_its_patient() -> None:
    """Columns that name the patient would tell every label of a patient whose lesions are all alike. Where the folds
    keep patients together, they say nothing."""
    table = ugly_ducklings(70, effect=0.0, num_members=1)[0]
    rng = np.random.default_rng(0)
    patient = pd.factorize(table["patient_id"])[0]
    alike = np.where(rng.random(70) < 0.5, "malignant", "benign")
    columns = [f"number {place}" for place in range(8)]
    told = table.assign(label=alike[patient], **{name: rng.random(70)[patient] for name in columns})
    options = StackOptions("hgb", ("metadata",), tuple(columns))
    assert auroc(fit_stacking([told], options).table) < 0.65
    apart = told.assign(patient_id=None, lesion_id=told["image_id"])
    assert auroc(fit_stacking([apart], options).table) > 0.9, "the test can find what it looks for"


def test_labels_do_not_count_for_predictions() -> None:
    tables = ugly_ducklings()
    fitted = fit_stacking(tables, StackOptions("hgb")).stacking
    rng = np.random.default_rng(0)
    others = [table.assign(label=rng.permutation(table["label"])) for table in tables[:1]]
    others.append(tables[1].assign(label=others[0]["label"]))
    np.testing.assert_array_equal(probabilities(fitted.apply(others)), probabilities(fitted.apply(tables)))


@pytest.mark.parametrize("method", METHODS)
def test_a_stored_ensemble_predicts_the_same_to_the_bit(method: str) -> None:
    needs(method)
    tables = ugly_ducklings(patients=40)
    found = []
    for threads in (1, 3):
        with threadpool_limits(threads):
            fitted = fit_stacking(tables, StackOptions(method))
        again = Stacking.from_dict(json.loads(json.dumps(fitted.stacking.to_dict(), allow_nan=False)))
        pd.testing.assert_frame_equal(again.apply(tables), fitted.stacking.apply(tables))
        found.append((json.dumps(fitted.stacking.to_dict()), probabilities(fitted.table).tobytes(), fitted.importance))
    assert found[0] == found[1]
    other = fit_stacking(tables, StackOptions(method, seed=1))
    assert probabilities(other.table).tobytes() != found[0][1], "other folds"
    assert json.dumps(other.stacking.to_dict()["model"]) == json.dumps(json.loads(found[0][0])["model"])


def test_data_without_patients_have_no_context_and_say_so(make_table: MakeTable) -> None:
    tables = members(make_table, 200, 0)
    fitted = fit_stacking(tables, StackOptions())
    assert fitted.stacking.features.groups == ("predictions", "metadata")
    assert any("context" in note and "no image has a patient_id" in note for note in fitted.notes)
    single = [table.assign(patient_id=table["lesion_id"]) for table in tables]
    assert any("no patient has two lesions" in note for note in fit_stacking(single, StackOptions()).notes)
    with pytest.raises(ConfigError, match=r"got stack_features=\[context\].*no image has a patient_id; add pred"):
        fit_stacking(tables, StackOptions(features=("context",)))


def test_partly_missing_patients_are_groups_of_their_own() -> None:
    tables = ugly_ducklings()
    lost = tables[0]["patient_id"].isin(tables[0]["patient_id"].unique()[::3])
    partly = [table.assign(patient_id=table["patient_id"].where(~lost, None)) for table in tables]
    fitted = fit_stacking(partly, StackOptions("hgb"))
    assert any(f"{lost.sum():,} of {len(lost):,} images have no patient_id" in note for note in fitted.notes)
    assert fitted.stacking.groups == len(np.unique(groups_of(partly[0])))
    known = [table[~lost] for table in (fitted.table, *partly)]
    assert auroc(known[0]) > max(map(auroc, known[1:])) + 0.15


@pytest.mark.parametrize("method", METHODS)
def test_missing_and_unknown_metadata_are_missing_values(method: str) -> None:
    needs(method)
    tables = ugly_ducklings()
    known = tables[0].assign(itch=np.where(tables[0]["label"] == "malignant", "true", "false"))
    known = known.assign(weight=np.nan, lost=None)
    known.loc[::4, "itch"] = "unknown"
    columns = ("age", "sex", "site", "itch", "weight", "lost")
    fitted = fit_stacking([known, known], StackOptions(method, ("metadata",), columns))
    assert [note for note in fitted.notes if "weight" in note or "lost" in note] == [
        "the column weight is left out: no image has a value", "the column lost is left out: no image has a value"
    ]  # fmt: skip
    asked = known["itch"] != "unknown"
    assert auroc(fitted.table[asked]) > 0.95
    strange = known.assign(itch="perhaps", age=np.nan, sex="unknown")
    found = probabilities(fitted.stacking.apply([strange, strange]))
    share = (known["label"] == "malignant").mean()
    np.testing.assert_allclose(found[:, 1], share, atol=0.1)
    with pytest.raises(DataError, match="expected the columns itch"):
        fitted.stacking.apply([known.drop(columns="itch")] * 2)


def test_balanced_weights_find_more_of_a_rare_class() -> None:
    tables = ugly_ducklings(effect=0.5)
    recall = {}
    for balanced in (False, True):
        found = fit_stacking(tables, StackOptions("logistic", balanced=balanced)).table
        recall[balanced] = metrics(found)["recall/malignant"]
    assert recall[True] > recall[False] + 0.3


def test_images_of_unknown_classes_are_predicted_and_not_fitted_on(make_table: MakeTable) -> None:
    tables = members(make_table, 300, 0)
    unknown = np.zeros(300, bool)
    unknown[::10] = True
    marked = [t.assign(is_unknown=unknown, label=np.where(unknown, "vasc", t["label"])) for t in tables]
    fitted = fit_stacking(marked, ALONE)
    assert fitted.stacking.images == 270
    check(fitted.table)
    assert fitted.table["is_unknown"].sum() == 30


def test_many_texts_and_too_little_data_are_refused(make_table: MakeTable) -> None:
    tables = members(make_table, 100, 0)
    named = [table.assign(doctor=[f"Dr {number}" for number in range(100)]) for table in tables]
    with pytest.raises(DataError, match=r"at most 30 different texts in the column doctor, got 100(?s:.)*stack_col"):
        fit_stacking(named, StackOptions(columns=("doctor",)))
    absent = make_table(40, {"bkl": 0, "mel": 1, "nv": 1})
    with pytest.raises(DataError, match="but bkl has no image there; use ensemble=mean"):
        fit_stacking([absent, absent], ALONE)
    alone = [table.assign(patient_id="a") for table in tables]
    with pytest.raises(DataError, match="at least two patients"):
        fit_stacking(alone, ALONE)
    with pytest.raises(DataError, match="1 images of run 1 are not in run 2"):
        fit_stacking([tables[0], tables[1].iloc[1:]], ALONE)
    with pytest.raises(DataError, match="combine the runs again"):
        Stacking.from_dict({"options": {}})
    with pytest.raises(ConfigError, match="one of predictions, context, metadata, got 'patients'"):
        StackOptions(features=("patients",))


def test_a_class_with_one_patient_is_predicted(make_table: MakeTable) -> None:
    tables = members(make_table, 200, 0)
    labels = ["df" if row == 3 else label for row, label in enumerate(tables[0]["label"])]
    widened = [
        predictions_table(
            table.drop(columns=[c for c in table if c.startswith("p_") or c == "prediction"]).assign(label=labels),
            np.concatenate([probabilities(table) * 0.9, np.full((200, 1), 0.1)], axis=1)[:, [0, 3, 1, 2]],
            ["bkl", "df", "mel", "nv"],
        )
        for table in tables
    ]
    for method in ("logistic", "hgb"):
        table = fit_stacking(widened, StackOptions(method, ("predictions",))).table
        check(table)
        assert 0 < table.loc[3, "p_df"] < 0.05
