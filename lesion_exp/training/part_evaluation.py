"""Evaluates the predictions of a run on its validation and test part, and logs the results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd

from lesion_exp.evaluation.classification_report import classification_report, confusion_matrix_data
from lesion_exp.evaluation.evaluation_result import EvaluationOptions, EvaluationResult, evaluate_table, with_intervals
from lesion_exp.evaluation.figures.confusion_matrix import confusion_matrix
from lesion_exp.evaluation.figures.curves import precision_recall_curves, reliability_diagram, roc_curves
from lesion_exp.evaluation.intervals import units_of
from lesion_exp.evaluation.posthoc import PosthocModels, fit_on_validation
from lesion_exp.evaluation.predictions import classes_of, has_labels_only
from lesion_exp.evaluation.registry import LOSS, TEST
from lesion_exp.split import PARTS
from lesion_exp.taxonomy import full_names
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.training.added_metrics import added_scores
from lesion_exp.training.data import SplitData

EvaluatedPart = Literal["val", "test"]


def fit_posthoc_models(table: pd.DataFrame, config: Mapping[str, Any]) -> PosthocModels:
    """Fits calibrators, thresholds and conformal sets on the predictions of the validation part."""
    return fit_on_validation(table, config["evaluation"]["conformal_alpha"])


def check_evaluation(config: Mapping[str, Any], split: SplitData) -> None:
    """Checks before training that the evaluation that `config` asks for is possible on this data set.

    Raises:
        ConfigError: intervals over patients are asked for, but the data set does not name the patients.
    """
    for _, rows in split.table.groupby("split"):
        units_of(rows, config["evaluation"]["bootstrap_unit"])


def evaluate(table: pd.DataFrame, config: Mapping[str, Any], fitted: PosthocModels | None) -> EvaluationResult:
    """Evaluates a predictions table; `fitted` is None for the validation part, on which these models are fitted."""
    return evaluate_table(table, fitted, evaluation_options(config["evaluation"]), added_scores(config, table))


def evaluation_options(node: Mapping[str, Any]) -> EvaluationOptions:
    """Returns the options of the node `evaluation` of a job."""
    return EvaluationOptions(
        int(node["bootstrap_draws"]), int(node["bootstrap_seed"]), node["bootstrap_unit"], node["calibration"]
    )


def log_evaluation(run: RunWriter, part: EvaluatedPart, evaluated: EvaluationResult) -> None:
    """Logs predictions, report, confusion matrix, curves and further results of a part of the run's data."""
    table = evaluated.table
    run.log_table(evaluated.whole, artifacts.predictions(part))
    log_report(run, part, evaluated)
    run.log_json(confusion_matrix_data(table), artifacts.confusion_matrix(part, ".json"))
    name = PARTS[part]
    about = f"{name} part"
    run.log_figure(
        confusion_matrix(table, f"{name} part, {len(table):,} images"), artifacts.confusion_matrix(part, ".png"), about
    )
    if not has_labels_only(table):
        curves = {
            "roc": roc_curves(table, f"ROC curves, {about}"),
            "pr": precision_recall_curves(table, f"precision-recall, {about}"),
        }
        for kind, figure in curves.items():
            run.log_figure(figure, artifacts.curve(kind, part), about)
    log_reliability(run, part, evaluated)
    log_evaluation_files(
        run, artifacts.evaluation(part), evaluated, f"{name} part, {len(table):,} images" if part == "test" else None
    )


def log_report(run: RunWriter, part: str, evaluated: EvaluationResult) -> None:
    """Logs the classification report of a part of the run's data."""
    table = evaluated.table
    names, unit = full_names(classes_of(table)), evaluated.options.unit
    text, data = classification_report(table, evaluated.intervals, names, unit, evaluated.added)
    run.log_text(text + _noted(evaluated), artifacts.classification_report(part, ".txt"))
    run.log_json(data, artifacts.classification_report(part, ".json"))


def log_reliability(run: RunWriter, part: str, evaluated: EvaluationResult) -> None:
    """Logs the reliability diagram of a part of the run's data, with intervals over the unit of the evaluation.

    Predictions that are labels alone have none.
    """
    if not has_labels_only(evaluated.table):
        figure = reliability_diagram(evaluated.table, f"reliability, {PARTS[part]}", evaluated.options.unit)
        run.log_figure(figure, artifacts.curve("reliability", part), f"{PARTS[part]} part")


def log_other_evaluation(run: RunWriter, folder: str, evaluated: EvaluationResult, title: str) -> None:
    """Logs predictions, report, confusion matrix, curves and further results of other data, all below `folder`."""
    table = evaluated.table
    run.log_table(evaluated.whole, f"{folder}/predictions.parquet")
    text, data = classification_report(
        table, evaluated.intervals, full_names(classes_of(table)), evaluated.options.unit, evaluated.added
    )
    run.log_text(text + _noted(evaluated), f"{folder}/classification_report.txt")
    run.log_json(data, f"{folder}/classification_report.json")
    run.log_json(confusion_matrix_data(table), f"{folder}/confusion_matrix.json")
    run.log_figure(confusion_matrix(table, title), f"{folder}/confusion_matrix.png", title)
    if not has_labels_only(table):
        run.log_figure(roc_curves(table, f"ROC curves, {title}"), f"{folder}/roc.png", title)
        run.log_figure(precision_recall_curves(table, f"precision-recall, {title}"), f"{folder}/pr.png", title)
    log_evaluation_files(run, folder, evaluated, title)


def _noted(evaluated: EvaluationResult) -> str:
    return f"\n{evaluated.note}\n" if evaluated.note else ""


def log_evaluation_files(run: RunWriter, folder: str, evaluated: EvaluationResult, title: str | None) -> None:
    """Logs the result files of an evaluation below `folder`, and its figures if it has a title."""
    for name, content in evaluated.files().items():
        run.log_json(content, f"{folder}/{name}")
    if title is not None:
        for name, figure in evaluated.figures(title):
            run.log_figure(figure, f"{folder}/{name}", title)


def log_posthoc_models(run: RunWriter, fitted: PosthocModels) -> None:
    """Logs the models that were fitted on the validation part, which `evaluate`, `predict` and others use."""
    for path, content in fitted.files().items():
        run.log_json(content, path)


def final_results(best_epoch: Mapping[str, float], test: EvaluationResult | None) -> dict[str, float]:
    """Returns the results of a run: `best/val/...` of the best epoch, `test/...` with intervals, and the sections'."""
    values = {f"best/{name}": value for name, value in best_epoch.items()}
    if test is not None:
        values |= part_results(TEST, test) | test.section_results()
    return values


def part_results(prefix: str, evaluated: EvaluationResult) -> dict[str, float]:
    """Returns the results of known and unknown classes with intervals (see `with_intervals`), named below `prefix`.

    The log loss is called `loss`.
    """
    plain = with_intervals({**evaluated.metrics, **evaluated.unknown}, evaluated.estimates)
    return {f"{prefix}/{re.sub('^nll', LOSS, name)}": value for name, value in plain.items()}
