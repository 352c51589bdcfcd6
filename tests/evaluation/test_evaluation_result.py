from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lesion_exp.evaluation.calibrator import fit_calibrator
from lesion_exp.evaluation.evaluation_result import EvaluationOptions, EvaluationResult, evaluate_table
from lesion_exp.evaluation.failures import failures, surest_right, surest_wrong
from lesion_exp.evaluation.intervals import intervals, intervals_in_words
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.evaluation.posthoc import calibrator_path, fit_on_validation, fit_operating_points
from lesion_exp.evaluation.predictions import predictions_table
from lesion_exp.training.part_evaluation import part_results
from tests.isic_scores import isic_metrics

MakeTable = Callable[..., pd.DataFrame]
RowsOf = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def validation(make_table: MakeTable) -> pd.DataFrame:
    return make_table(600, seed=1)


@pytest.fixture(scope="module")
def judged(make_table: MakeTable, validation: pd.DataFrame) -> EvaluationResult:
    return evaluate_table(
        make_table(600), fit_on_validation(validation), EvaluationOptions(draws=50, calibration="temperature")
    )


def test_every_part_is_what_its_own_function_says(judged: EvaluationResult, validation: pd.DataFrame) -> None:
    table = judged.table
    assert judged.metrics == metrics(table)
    assert judged.intervals == intervals(table, draws=50)
    for name, value in isic_metrics(table).items():
        assert judged.estimates[f"isic/{name}"].value == pytest.approx(value, abs=1e-12), name
    calibrated = metrics(fit_calibrator("temperature", validation).calibrate(table))
    for name in ("ece", "brier", "nll", "accuracy", "auroc_macro"):
        assert judged.estimates[f"calibrated/{name}"].value == pytest.approx(calibrated[name], abs=1e-12), name


def test_operating_points_are_those_of_validation(judged: EvaluationResult, validation: pd.DataFrame) -> None:
    (point,) = [p for p in fit_operating_points(validation) if p.name == "malignant/sensitivity_90"]
    score = judged.table[["p_akiec", "p_bcc", "p_mel"]].astype(float).sum(axis=1)
    positive = judged.table["label"].isin(["akiec", "bcc", "mel"])
    found = judged.estimates["operating/malignant/sensitivity_90/sensitivity"].value
    assert found == pytest.approx((score[positive] >= point.threshold).mean())


def test_the_validation_part_is_judged_without_what_is_fitted_on_it(validation: pd.DataFrame) -> None:
    found = evaluate_table(validation, None, EvaluationOptions(draws=20, calibration="temperature"))
    assert {name.split("/")[0] for name in found.section_results()} == {"isic"}
    assert found.calibrated is None
    assert not {"calibrated.json", "conformal.json", "operating.json"} & set(found.files())


def test_results_of_sections_have_intervals(judged: EvaluationResult) -> None:
    logged = judged.section_results()
    values = {name for name in logged if not name.endswith(("_low", "_high"))}
    assert {"isic/balanced_accuracy", "isic/pauc_2024/malignant", "isic/auc_sens_80/mel", "calibrated/ece"} <= values
    assert {"conformal/lac/coverage", "operating/malignant/youden/specificity"} <= values
    for name in values:
        if name.startswith("isic/") and name.count("/") > 1:
            assert f"{name}_low" not in logged, "the interval of a class has the name of another class"
            continue
        assert logged[f"{name}_low"] <= logged[name] <= logged[f"{name}_high"] or name.startswith("calibrated/ece")
    assert {"conformal/lac/coverage/mel", "operating/mel/youden/sensitivity"} <= values


def test_files_are_plain_and_hold_all_sections(judged: EvaluationResult) -> None:
    content = json.loads(json.dumps(judged.files(), allow_nan=False))
    assert content["metrics.json"]["interval"] == intervals_in_words(50, "lesion")
    assert content["metrics.json"]["balanced_accuracy"]["value"] == judged.metrics["balanced_accuracy"]
    assert set(content["isic.json"]["balanced_accuracy"]) == {"value", "low", "high"}
    assert content["calibrated.json"]["calibration"] == "temperature"
    assert "lac/coverage/mel" in content["conformal.json"]
    assert "mel/youden/sensitivity" in content["operating.json"]


def test_a_calibration_of_none_leaves_that_section_out(make_table: MakeTable, validation: pd.DataFrame) -> None:
    found = evaluate_table(make_table(100), fit_on_validation(validation), EvaluationOptions(draws=20))
    assert "calibrated.json" not in found.files()
    assert [name for name, _ in found.figures("x")] == ["subgroups.png", "decision_curve.png"]


def test_pictures_are_drawn(judged: EvaluationResult) -> None:
    drawn = dict(judged.figures("test part"))
    assert set(drawn) == {"subgroups.png", "calibration.png", "decision_curve.png"}
    titles = [axes.get_title(loc="left") for axes in drawn["calibration.png"].axes]
    before, after = judged.metrics["ece"], judged.estimates["calibrated/ece"].value
    assert titles[:2] == [f"as predicted: ECE {before:.3f}", f"after temperature scaling: ECE {after:.3f}"]


def test_files_of_what_was_fitted_are_plain(validation: pd.DataFrame) -> None:
    files = json.loads(json.dumps(fit_on_validation(validation, alpha=0.2).files(), allow_nan=False))
    assert {calibrator_path(method) for method in ("temperature", "vector", "isotonic")} <= set(files)
    assert files["conformal/lac.json"]["alpha"] == 0.2
    assert {"target", "rule", "threshold"} <= set(files["operating_points/points.json"][0])


def test_failures_are_the_surest_mistakes_first(rows_of: RowsOf) -> None:
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9]])
    table = predictions_table(rows_of(["a", "b", "a", "a"]), probs, ["a", "b"])
    found = failures(table)
    assert [row["image_id"] for row in found] == ["img3", "img2", "img1"]
    assert found[0] == {
        "image_id": "img3", "label": "a", "prediction": "b", "probability": 0.9, "probability_of_label": 0.1,
    }  # fmt: skip
    assert len(failures(table, count=1)) == 1


def test_right_predictions_are_chosen_from_each_class_in_turn(rows_of: RowsOf) -> None:
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6], [0.3, 0.7], [0.05, 0.95]])
    table = predictions_table(rows_of(["a", "a", "a", "b", "b", "a"]), probs, ["a", "b"])
    assert surest_right(table, 4).tolist() == [0, 4, 1, 3]
    assert surest_right(table, 50).tolist() == [0, 4, 1, 3, 2]
    assert surest_wrong(table, 50).tolist() == [5]


def test_a_gallery_shows_a_lesion_once(rows_of: RowsOf) -> None:
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6], [0.2, 0.8], [0.05, 0.95]])
    lesions = ["one", "one", "two", None, "three", "three"]
    table = predictions_table(rows_of(["a", "a", "a", "b", "a", "a"], lesions), probs, ["a", "b"])
    assert surest_right(table, 50, once_a_lesion=True).tolist() == [0, 3, 2]
    assert surest_wrong(table, 50, once_a_lesion=True).tolist() == [5]


def test_no_interval_has_the_name_of_the_metric_of_a_class(make_table: MakeTable) -> None:
    table = make_table(300)
    odd = {"akiec": "dys", "bcc": "dys_low", "bkl": "dys_high", "df": "macro", "mel": "malignant_low"}
    probs = table.filter(regex="^p_").rename(columns=lambda name: odd.get(name[2:], name[2:])).sort_index(axis=1)
    rows = table.drop(columns=[*table.filter(regex="^p_"), "prediction"])
    classes = list(probs)
    renamed = predictions_table(rows.assign(label=rows["label"].replace(odd)), probs.to_numpy(), classes)
    found = evaluate_table(renamed, None, EvaluationOptions(draws=50))
    logged = part_results("test", found) | found.section_results()
    plain = metrics(renamed)
    for name in classes:
        assert logged[f"test/recall/{name}"] == plain[f"recall/{name}"] == found.metrics[f"recall/{name}"]
        assert logged[f"isic/auc/{name}"] == pytest.approx(plain[f"auroc/{name}"])
        interval = found.files()["metrics.json"][f"recall/{name}"]
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert logged["isic/auc/macro mean"] == pytest.approx(np.mean([plain[f"auroc/{name}"] for name in classes]))
    assert logged["test/balanced_accuracy_low"] < logged["test/balanced_accuracy"]
    kept = [name for name in logged if name.startswith("test/") and name.count("/") == 2]
    assert len(kept) == sum("/" in name for name in plain)
