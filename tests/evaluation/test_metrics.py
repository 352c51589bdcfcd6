from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as reference
from torchmetrics.functional.classification import multiclass_calibration_error

from lesion_exp.evaluation import confusion
from lesion_exp.evaluation.calibration import CALIBRATION
from lesion_exp.evaluation.confusion import OF_ALL_CLASSES, metrics_of_counts
from lesion_exp.evaluation.intervals import bootstrap, intervals
from lesion_exp.evaluation.malignant_view import malignant_view, rule_in_words
from lesion_exp.evaluation.metrics import OVERALL, metric_names, metrics
from lesion_exp.evaluation.predictions import (
    classes_of,
    predicted_classes,
    predictions_table,
    probabilities,
    true_classes,
)
from lesion_exp.evaluation.registry import METRICS, Metric

MakeTable = Callable[..., pd.DataFrame]
ERRORS = {"brier", "nll", "ece", "ece_equal_mass", "ece_classwise", "ece_of_calibrated"}


def scikit_learns(table: pd.DataFrame) -> dict[str, float]:
    """The same metrics by scikit-learn; undefined ones left out."""
    classes, true, predicted, probs = (
        classes_of(table),
        true_classes(table),
        predicted_classes(table),
        probabilities(table),
    )
    present = sorted(set(true))
    targets = np.eye(len(classes))[true]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {
            "f1_macro": reference.f1_score(true, predicted, labels=present, average="macro", zero_division=0),
            "brier": ((probs - targets) ** 2).sum(axis=1).mean(),
            "nll": -np.log(np.clip(probs[np.arange(len(true)), true], np.finfo(np.float32).eps, 1)).mean(),
        }
        for name in OVERALL:
            if METRICS[name].same_as:
                found[name] = called(METRICS[name].same_as, true, probs if name in CALIBRATION else predicted)
    areas = []
    for position, name in enumerate(classes):
        positive, hit = true == position, predicted == position
        if positive.any():
            for family in ("recall", "precision", "f1"):
                score = getattr(reference, f"{family}_score")
                found[f"{family}/{name}"] = score(positive, hit, zero_division=0)
            found[f"average_precision/{name}"] = reference.average_precision_score(positive, probs[:, position])
        if not positive.all():
            found[f"specificity/{name}"] = reference.recall_score(~positive, ~hit, zero_division=0)
        if positive.any() and not positive.all():
            found |= {f"{family}/{name}": value for family, value in at_limits(positive, probs[:, position]).items()}
            found[f"auroc/{name}"] = reference.roc_auc_score(positive, probs[:, position])
            areas.append(found[f"auroc/{name}"])
    if areas:
        found["auroc_macro"] = float(np.mean(areas))
    return {name: float(value) for name, value in found.items() if not np.isnan(value)}


def called(call: str, true: np.ndarray, other: np.ndarray) -> float:
    """The value of a call of scikit-learn as the registry writes it: `f1_score(average='macro')`; `other` are predicted
    classes, int (N,), or probabilities, float64 (N, C)."""
    node = ast.parse(call, mode="eval").body
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
    if other.ndim == 2:
        keywords["labels"] = list(range(other.shape[1]))  # some classes may have no image
    return float(getattr(reference, node.func.id)(true, other, **keywords))


def test_only_scikit_learns_mean_f1_counts_classes_that_are_predicted_and_absent(rows_of) -> None:
    """a: F1 2/3, b: F1 1; c has no image and is predicted once."""
    probs = np.float32([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]])
    table = predictions_table(rows_of(["a", "a", "b"], ["x", "y", "z"]), probs, ["a", "b", "c"])
    found = metrics(table)
    assert found["f1_macro"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["f1_macro_sklearn"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    ends = [intervals(table, ["f1_macro", "f1_macro_sklearn"], 20)[name] for name in ("f1_macro", "f1_macro_sklearn")]
    widths = [high - low for low, high in ends]
    assert widths[1] == pytest.approx(2 / 3 * widths[0])


def at_limits(positive: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Sensitivity at a specificity and the reverse, from every point of scikit-learn's curve."""
    false, true, _ = reference.roc_curve(positive, scores, drop_intermediate=False)
    found = {}
    for share in (90, 95):
        found[f"sensitivity_at_{share}_specificity"] = true[1 - false >= share / 100 - 1e-12].max()
        found[f"specificity_at_{share}_sensitivity"] = (1 - false)[true >= share / 100 - 1e-12].max()
    return found


def assert_as_scikit_learn(table: pd.DataFrame) -> None:
    found, expected = metrics(table), scikit_learns(table)
    own = ERRORS - {"brier", "nll"}
    judged = {name for name in found if not name.endswith("/malignant") or "p_malignant" in table} - own
    assert judged == set(expected), "each needs a value of scikit-learn: `same_as` in the registry, or a line above"
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decimals", [None, 1, 0], ids=["no ties", "some ties", "many ties"])
def test_random_tables(make_table: MakeTable, seed: int, decimals: int | None) -> None:
    assert_as_scikit_learn(make_table(400, decimals=decimals, seed=seed, skill=0.7))


def test_two_classes(make_table: MakeTable) -> None:
    assert_as_scikit_learn(make_table(300, {"benign": 0.8, "malignant": 0.2}, skill=1.0))


def test_two_classes_with_many_ties(make_table: MakeTable) -> None:
    assert_as_scikit_learn(make_table(300, {"benign": 0.3, "malignant": 0.7}, decimals=0, skill=1.0))


@pytest.mark.parametrize("seed", range(3))
def test_absent_classes(make_table: MakeTable, seed: int) -> None:
    table = make_table(60, {"a": 0.5, "b": 0.45, "c": 0.05, "d": 0.0}, skill=0.3, seed=seed)
    assert "d" not in set(table["label"])
    assert_as_scikit_learn(table)


def test_one_class_only(make_table: MakeTable) -> None:
    table = make_table(400).query("label == 'mel'")
    assert_as_scikit_learn(table)
    found = metrics(table)
    assert "auroc_macro" not in found
    assert not [name for name in found if name.startswith("auroc/")]
    assert "specificity/mel" not in found
    assert found["balanced_accuracy"] == found["recall/mel"] == found["accuracy"]


def test_a_single_image(make_table: MakeTable) -> None:
    assert_as_scikit_learn(make_table(1))


def test_a_constant_model_has_the_figures_of_guessing(rows_of: Callable[..., pd.DataFrame]) -> None:
    labels = ["nv"] * 7 + ["mel"] * 3
    table = predictions_table(rows_of(labels), np.tile(np.float32([0.25, 0.75]), (10, 1)), ["mel", "nv"])
    found = metrics(table)
    assert found["accuracy"] == 0.7
    assert found["balanced_accuracy"] == 0.5
    assert found["auroc_macro"] == found["auroc/mel"] == 0.5
    assert found["precision/mel"] == found["recall/mel"] == found["f1/mel"] == 0
    assert found["specificity/mel"] == 1
    assert found["average_precision/mel"] == pytest.approx(0.3)
    assert found["ece"] == pytest.approx(0.05)
    assert found["brier"] == pytest.approx(0.7 * 2 * 0.25**2 + 0.3 * 2 * 0.75**2)


def test_a_perfect_model(rows_of: Callable[..., pd.DataFrame]) -> None:
    labels = ["a", "b", "c", "a", "b", "b"]
    probs = np.eye(3, dtype=np.float32)[["abc".index(label) for label in labels]]
    found = metrics(predictions_table(rows_of(labels), probs, ["a", "b", "c"]))
    assert {found[name] for name in ERRORS} == {0.0}
    assert {value for name, value in found.items() if name not in ERRORS} == {1.0}


@pytest.mark.parametrize("decimals", [None, 1])
def test_ece_is_torchmetrics(make_table: MakeTable, decimals: int | None) -> None:
    table = make_table(800, decimals=decimals, skill=1.0)
    probs = torch.tensor(probabilities(table))
    labels = torch.tensor(true_classes(table))
    expected = multiclass_calibration_error(probs, labels, probs.shape[1], n_bins=15, norm="l1")
    assert metrics(table)["ece"] == pytest.approx(expected.item(), abs=1e-6)


def test_certain_and_wrong_gives_a_finite_log_loss(rows_of: Callable[..., pd.DataFrame]) -> None:
    table = predictions_table(rows_of(["a"]), np.float32([[0.0, 1.0]]), ["a", "b"])
    assert metrics(table)["nll"] == pytest.approx(-math.log(np.finfo(np.float32).eps))


def test_names_are_those_of_the_contract_and_values_plain_floats(table: pd.DataFrame) -> None:
    found = metrics(table)
    assert set(found) == set(metric_names(classes_of(table)))
    assert {"accuracy", "balanced_accuracy", "f1_macro", "auroc_macro"} <= set(found)
    assert {f"{family}/mel" for family in ("recall", "precision", "specificity", "f1", "auroc")} <= set(found)
    assert {type(value) for value in found.values()} == {float}
    assert all(math.isfinite(value) for value in found.values())


def test_the_order_of_rows_does_not_matter(table: pd.DataFrame) -> None:
    shuffled = table.sample(frac=1, random_state=0)
    assert metrics(shuffled) == pytest.approx(metrics(table), abs=1e-12)


def test_the_malignant_view_is_the_table_of_two_classes(make_table: MakeTable) -> None:
    table = make_table(500, skill=1.0)
    malignant = table["label"].isin(["akiec", "bcc", "mel"])
    share = table[["p_akiec", "p_bcc", "p_mel"]].to_numpy(np.float64).sum(axis=1)
    view = malignant_view(table)
    assert view is not None
    assert list(view.filter(regex="^p_").columns) == ["p_benign", "p_malignant"]
    assert ((view["label"] == "malignant") == malignant).all()
    assert ((view["prediction"] == "malignant") == (share > 0.5)).all()
    found, expected = metrics(table), scikit_learns(view)
    for name, value in expected.items():
        if name.endswith("/malignant"):
            assert found[name] == pytest.approx(value, abs=1e-6), name
    assert found["accuracy/malignant"] == pytest.approx(expected["accuracy"])
    assert found["balanced_accuracy/malignant"] == pytest.approx(expected["balanced_accuracy"])
    assert found["brier/malignant"] == pytest.approx(2 * reference.brier_score_loss(malignant, share), abs=1e-6)


def test_the_rule_of_the_malignant_view_names_its_classes() -> None:
    assert "(akiec, bcc, mel) add up to more than 0.5" in rule_in_words(["akiec", "bcc", "bkl", "mel", "nv"])


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("benign", "malignant"), ("bkl", "nv", "vasc"), ("mel", "nv")])
def test_there_is_no_malignant_view_where_it_says_nothing(make_table: MakeTable, classes: tuple[str, ...]) -> None:
    table = make_table(40, dict.fromkeys(classes, 1.0))
    assert malignant_view(table) is None
    with pytest.raises(ValueError, match="expected classes that are malignant or benign"):
        rule_in_words(classes)
    if "malignant" not in classes:
        assert not [name for name in metrics(table) if name.endswith("/malignant")]


def test_a_class_called_malignant_among_several_has_its_own_metrics_and_no_view(make_table: MakeTable) -> None:
    table = make_table(300, {"benign": 0.3, "malignant": 0.3, "non_neoplastic": 0.4})  # of Fitzpatrick17k
    assert_as_scikit_learn(table)
    found = metrics(table)
    assert "accuracy/malignant" not in found
    is_malignant = table["label"] == "malignant"
    assert found["recall/malignant"] == (table["prediction"] == "malignant")[is_malignant].mean()


def test_only_the_metrics_asked_for_are_computed(table: pd.DataFrame) -> None:
    names = ["auroc_macro", "recall/mel", "ece", "auroc/malignant"]
    assert metrics(table, names) == {name: metrics(table)[name] for name in names}


def test_errors_of_calibration_by_hand(rows_of: Callable[..., pd.DataFrame]) -> None:
    """15 images in 15 bins of equal mass: each alone, so the error is the mean |confidence - correct|."""
    confidence = np.linspace(0.6, 0.88, 15)
    labels = ["a"] * 10 + ["b"] * 5
    table = predictions_table(rows_of(labels), np.stack([confidence, 1 - confidence], axis=1), ["a", "b"])
    expected = np.abs(confidence - (np.arange(15) < 10)).mean()
    assert metrics(table)["ece_equal_mass"] == pytest.approx(expected, abs=1e-6)


def test_classwise_error_of_a_constant_model_is_its_distance_from_the_prevalence(
    rows_of: Callable[..., pd.DataFrame],
) -> None:
    probs = np.tile(np.float32([0.5, 0.3, 0.2]), (10, 1))
    table = predictions_table(rows_of(["a"] * 2 + ["b"] * 3 + ["c"] * 5), probs, ["a", "b", "c"])
    assert metrics(table)["ece_classwise"] == pytest.approx((0.3 + 0.0 + 0.3) / 3, abs=1e-6)


def test_a_new_metric_of_the_confusion_matrix_is_no_certainty_where_all_are_right(monkeypatch) -> None:
    """It needs its name, its formula and its entry; its interval follows from draws and does not have the width 0."""

    def with_kappa(counts: np.ndarray, classes: Sequence[str]) -> dict[str, np.ndarray]:
        total = counts.sum(axis=(0, 1))
        agreed, chance = np.einsum("ccd->d", counts) / total, (counts.sum(0) * counts.sum(1)).sum(0) / total**2
        return {**metrics_of_counts(counts, classes), "cohens_kappa": (agreed - chance) / (1 - chance)}

    monkeypatch.setitem(METRICS, "cohens_kappa", Metric("cohens_kappa", "Cohen's kappa", lowest=-1.0))
    monkeypatch.setattr(confusion, "OF_ALL_CLASSES", (*OF_ALL_CLASSES, "cohens_kappa"))
    monkeypatch.setattr(confusion, "metrics_of_counts", with_kappa)
    true = np.repeat([0, 1], 8)
    of_matrix = confusion.confusion_metrics(true, true, np.arange(16), 16, ["a", "b"])
    found = bootstrap(of_matrix.only(["cohens_kappa"]), 16, 50)["cohens_kappa"]
    assert (found.value, found.high) == pytest.approx((1, 1))
    assert 0.2 < found.low < 0.8


def test_a_call_of_scikit_learn_is_read_as_the_registry_writes_it() -> None:
    true, probs = np.array([0, 0, 1]), np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.6, 0.2]])
    assert called("log_loss()", true, probs) == pytest.approx(-np.log([0.5, 0.1, 0.6]).mean())
    assert called("top_k_accuracy_score(k=2)", true, probs) == pytest.approx(2 / 3)
    assert called("f1_score(average='macro', zero_division=0)", true, probs.argmax(axis=1)) == pytest.approx(2 / 3)
