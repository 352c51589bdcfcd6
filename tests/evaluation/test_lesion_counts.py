"""How many lesions a metric rests on, and that every output obeys the one setting of how many are enough."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lesion_exp
from lesion_exp.evaluation.classification_report import classification_report
from lesion_exp.evaluation.evaluation_result import EvaluationOptions, evaluate_table
from lesion_exp.evaluation.figures.curves import roc_curves
from lesion_exp.evaluation.lesion_counts import (
    images_as_lesions,
    is_enough,
    lesion_counts,
    too_few,
    too_few_in_all,
    warnings_of_lesions,
)
from lesion_exp.evaluation.limits import LEAST_LESIONS
from lesion_exp.evaluation.metrics import metric_names
from lesion_exp.evaluation.predictions import classes_of, predictions_table

RowsOf = Callable[..., pd.DataFrame]


@pytest.fixture
def table(rows_of: RowsOf) -> pd.DataFrame:
    """19 lesions of df with two images each, 20 of mel and 60 of nv; a third of the images are read wrongly."""
    labels = np.repeat(["df", "mel", "nv"], [19, 20, 60]).repeat(2)
    lesions = [f"les{number}" for number in np.arange(99).repeat(2)]
    probs = (
        np.random.default_rng(0).dirichlet(np.ones(3), len(labels))
        + np.eye(3)[np.unique(labels, return_inverse=True)[1]]
    )
    return predictions_table(
        rows_of(labels.tolist(), lesions), probs / probs.sum(axis=1, keepdims=True), ["df", "mel", "nv"]
    )


def test_a_metric_rests_on_lesions_of_the_kind_that_it_is_about(table: pd.DataFrame) -> None:
    counts = lesion_counts(table)
    expected = {
        "accuracy": 99, "balanced_accuracy": 99, "recall/df": 19, "precision/df": 19, "f1/df": 19,
        "average_precision/df": 19, "specificity/df": 80, "auroc/df": 19, "sensitivity_at_95_specificity/df": 19,
        "auroc/nv": 39, "recall/nv": 60, "specificity/nv": 39, "recall/malignant": 20, "specificity/malignant": 79,
        "auroc/malignant": 20, "accuracy/malignant": 99, "balanced_accuracy/malignant": 99, "ece/malignant": 99,
        "isic/balanced_accuracy": 99, "isic/sensitivity/df": 19, "isic/npv/df": 80, "isic/pauc_2024/malignant": 20,
        "isic/auc_sens_80/macro": 99, "operating/malignant/youden/sensitivity": 20, "operating/df/youden/ppv": 19,
        "operating/df/youden/specificity": 80, "conformal/lac/coverage": 99, "conformal/lac/coverage/df": 19,
        "calibrated/ece": 99,
    }  # fmt: skip
    assert {name: counts.of(name) for name in expected} == expected
    of_the_part = {"accuracy", "balanced_accuracy", "isic/balanced_accuracy", "isic/auc_sens_80/macro"}
    of_the_part |= {"conformal/lac/coverage", "calibrated/ece"}
    assert {name for name in expected if not counts.is_of_class(name)} == of_the_part
    assert all(counts.of(name) > 0 for name in metric_names(classes_of(table)))


def test_a_class_with_a_slash_in_its_name_is_found_in_every_section(rows_of: RowsOf) -> None:
    names = ["a/b", "c"]
    counts = lesion_counts(predictions_table(rows_of(["a/b", "c", "c"], ["1", "2", "3"]), np.full((3, 2), 0.5), names))
    expected = {"recall/a/b": 1, "isic/sensitivity/a/b": 1, "operating/a/b/youden/ppv": 1,
                "operating/a/b/youden/npv": 2, "conformal/aps/coverage/a/b": 1}  # fmt: skip
    assert {name: counts.of(name) for name in expected} == expected


def test_twenty_are_enough_and_nineteen_are_not(table: pd.DataFrame) -> None:
    counts = lesion_counts(table)
    assert LEAST_LESIONS == 20
    assert (counts.too_few("recall/df"), counts.too_few("recall/mel")) == ("too few (19 lesions)", "")
    assert (is_enough(19), is_enough(20)) == (False, True)
    assert too_few(1) == "too few (1 lesion)"


def test_files_and_reports_say_what_is_too_few_and_keep_the_number(table: pd.DataFrame) -> None:
    judged = evaluate_table(table, options=EvaluationOptions(draws=20))
    stored = judged.files()["metrics.json"]
    assert stored["recall/df"].keys() == {"value", "low", "high", "too_few"}
    assert stored["recall/df"]["too_few"] == "too few (19 lesions)"
    marked = {name for name, found in stored.items() if isinstance(found, dict) and "too_few" in found}
    assert marked == {name for name in judged.metrics if name.endswith("/df") and name != "specificity/df"}
    assert set(judged.too_few()) > {"isic/auc_sens_80/df", "recall/df"}
    isic = judged.files()["isic.json"]
    assert isic["auc_sens_80/df"]["too_few"] == "too few (19 lesions)"
    assert "too_few" not in isic["pauc_2024/malignant"]
    text, data = classification_report(table)
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    assert rows["df"].count("*") == 4  # all but the specificity, which rests on the others
    assert "*" not in rows["mel"] + rows["nv"]
    assert "* too few: the number rests on fewer than 20 lesions" in text
    assert data["classes"]["df"]["lesions"] == 19
    assert data["classes"]["df"]["too_few"] == ["precision", "recall", "f1", "auroc"]
    assert data["classes"]["mel"]["too_few"] == []


def test_a_part_of_too_few_lesions_is_warned_of(table: pd.DataFrame) -> None:
    few = table[table["lesion_id"].isin([f"les{number}" for number in (*range(7), *range(20, 27), *range(40, 45))])]
    options = EvaluationOptions(draws=100, seed=0)
    [said] = evaluate_table(few.reset_index(drop=True), None, options).warnings
    assert said == "every result here rests on 19 lesions, too few to evaluate a network; at least 20 are needed"
    unnamed = few.assign(lesion_id=None).head(7).reset_index(drop=True)
    [said] = evaluate_table(unnamed, None, options).warnings
    assert said.startswith("every result here rests on 7 images without a known lesion, too few to evaluate a network")
    assert evaluate_table(table, None, options).warnings == []


def test_curves_of_too_few_lesions_say_so_in_the_legend(table: pd.DataFrame) -> None:
    texts = [text.get_text() for text in roc_curves(table).axes[1].get_legend().get_texts()]
    assert ["too few" in text for text in texts] == [True, False, False]


def test_the_number_stands_in_one_place() -> None:
    """No module of the package writes it as a number of its own in code or in what it says."""
    package = Path(lesion_exp.__file__).parent
    written = re.compile(
        rf"(_FEW\w*|LEAST_LESIONS)\b[^=\n]*= {LEAST_LESIONS}\b|[\"'][^\"'\n]*\b{LEAST_LESIONS} lesions"
    )
    found = []
    for path in package.rglob("*.py"):
        code = re.sub(r'""".*?"""', "", path.read_text("utf-8"), flags=re.DOTALL)
        found += [str(path.relative_to(package)) for line in code.splitlines() if written.search(line)]
    assert found == ["evaluation/limits.py"]


def test_images_that_count_as_lesions_although_patients_have_several_are_told(make_table):
    table = make_table(40).drop(columns="lesion_id").assign(patient_id=[f"p{number // 4}" for number in range(40)])
    text = images_as_lesions(table, "lesion")
    assert "the lesions of 40 images of 10 patients are unknown" in text
    assert "evaluation.bootstrap_unit=patient" in text
    assert images_as_lesions(table.assign(lesion_id=None), "lesion") == text
    assert images_as_lesions(table, "patient") is None
    assert images_as_lesions(table.assign(lesion_id=table["patient_id"]), "lesion") is None
    assert images_as_lesions(table.assign(patient_id=table["image_id"]), "lesion") is None
    assert images_as_lesions(table.drop(columns="patient_id"), "lesion") is None


def test_images_without_a_lesion_are_told_beside_others_that_have_one(make_table):
    """ISIC 2024 has a lesion_id for one image in 18."""
    ids = [f"l{number}" if number % 18 == 0 else None for number in range(40)]
    table = make_table(40).assign(lesion_id=ids, patient_id=[f"p{number // 4}" for number in range(40)])
    assert "the lesions of 37 images of 10 patients are unknown" in (images_as_lesions(table, "lesion") or "")
    once = table.drop_duplicates("patient_id")
    assert images_as_lesions(once, "lesion") is None


def test_the_warnings_of_a_table_are_the_same_in_an_evaluation(make_table):
    table = make_table(12).drop(columns="lesion_id").assign(patient_id=[f"p{number // 4}" for number in range(12)])
    found = warnings_of_lesions(table, "lesion")
    assert found == [too_few_in_all(table), images_as_lesions(table, "lesion")]
    assert None not in found
    assert warnings_of_lesions(table, "patient") == found[:1]
    assert evaluate_table(table, None, EvaluationOptions(10)).warnings[:2] == found
    assert warnings_of_lesions(make_table(400), "lesion") == []
