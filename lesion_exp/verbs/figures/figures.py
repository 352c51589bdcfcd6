"""Draws the figures of a run's evaluations from its stored predictions, in any format."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd
from matplotlib.figure import Figure

from lesion_exp.choices import NONE, TTA
from lesion_exp.config.compose import compose
from lesion_exp.errors import DataError
from lesion_exp.evaluation.evaluation_result import evaluate_table
from lesion_exp.evaluation.figures.confusion_matrix import confusion_matrix
from lesion_exp.evaluation.figures.curves import precision_recall_curves, reliability_diagram, roc_curves
from lesion_exp.evaluation.intervals import Unit
from lesion_exp.evaluation.posthoc import PosthocModels, fit_on_validation
from lesion_exp.evaluation.predictions import has_labels_only, known_rows
from lesion_exp.progress import Stage
from lesion_exp.split import PARTS
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.run_writer import RunWriter, save_figure
from lesion_exp.tracking.stored_run import artifact_names, check_classifies, read_stored_json, read_stored_table
from lesion_exp.trained_runs.trained_run import TrainedRun
from lesion_exp.training.part_evaluation import evaluation_options
from lesion_exp.verbs.figures.comparison_figure import comparison_figure

log = logging.getLogger(__name__)

_VALIDATION: Final = "val"
_IN_FILE: Final = {
    "calibration": "calibration", "bootstrap_unit": "unit", "bootstrap_draws": "bootstrap_draws",
    "bootstrap_seed": "bootstrap_seed",
}  # fmt: skip
"""Key of the node `evaluation` -> its key in the file with the metrics of an evaluation."""
_OF_CALIBRATED: Final = ("calibration.png", "decision_curve.png")
"""The figures that show calibrated probabilities where there is a calibration."""


def draw_figures(trained: TrainedRun, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Draws the figures of each part and data set that the run has predicted, and returns their paths.

    These are confusion matrix, ROC, precision-recall, reliability and decision curves, and subgroups; `roc_test.pdf` is
    the ROC curve of the test part. Of a comparison it is the figure of the differences, as `differences_test.pdf`. No
    picture of a patient is drawn.

    Args:
        trained: the run.
        folder: the folder to write to; it is made if it does not exist.
        formats: endings of files that matplotlib can write.

    Raises:
        ConfigError: the run is a pretraining.
        DataError: it has no predictions.
    """
    check_classifies(trained.run, "figures")
    comparison = read_stored_json(trained.run, f"{artifacts.COMPARISON}.json")
    if comparison is not None:
        return _draw_comparison(trained, comparison, folder, formats)
    tables = _tables(trained)
    if not tables:
        raise DataError(
            f"expected a run with predictions, got {trained.run_id} ({trained.run.status}) without any; name a run "
            f"that has finished its training or evaluation, or a comparison"
        )
    options = _options(trained)
    posthoc = _fitted(tables.get(_VALIDATION), float(options["conformal_alpha"]))
    folder.mkdir(parents=True, exist_ok=True)
    writer = RunWriter.of(trained.run)
    paths = []
    for name, table in tables.items():
        title = f"{PARTS[name]} part" if name in PARTS else name
        with Stage(f"drawing the figures of {title}"):
            own = {**options, **_of_evaluation(trained, name)}
            fits = posthoc is not None and name != _VALIDATION and not _has_other_views(name)
            result = evaluate_table(table, posthoc if fits else None, evaluation_options(own))
            drawn = [*_curves(result.table, title, result.options.unit), *result.figures(title)]
            if not fits and own["calibration"] != NONE:
                drawn = [(kind, figure) for kind, figure in drawn if kind not in _OF_CALIBRATED]
                log.warning(
                    "warning: the decision curve and the calibration of %s are left out: they belong to probabilities "
                    "that were calibrated by validation predictions with the same views, which are not stored; the "
                    "run has both figures as PNG in %s", title, artifacts.evaluation(name)
                )  # fmt: skip
            for kind, figure in drawn:
                for ending in formats:
                    path = folder / f"{Path(kind).stem}_{name}.{ending}"
                    save_figure(figure, path, writer.footer(title))
                    paths.append(path)
    return paths


def _draw_comparison(
    trained: TrainedRun, stored: Mapping[str, Any], folder: Path, formats: Sequence[str]
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"differences_{stored['part']}.{ending}" for ending in formats]
    figure, footer = comparison_figure(stored), RunWriter.of(trained.run).footer(f"{PARTS[stored['part']]} part")
    for path in paths:
        save_figure(figure, path, footer)
    return paths


def _tables(trained: TrainedRun) -> dict[str, pd.DataFrame]:
    """The predictions of the run by the name of the part or data set."""
    names = artifact_names(trained.run)
    found = {part: artifacts.predictions(part) for part in (_VALIDATION, "test")}
    start, end = f"{artifacts.evaluation('')}", "/predictions.parquet"
    found |= {name.removeprefix(start).removesuffix(end): name for name in sorted(names)
              if name.startswith(start) and name.endswith(end)}  # fmt: skip
    tables = {name: read_stored_table(trained.run, path) for name, path in found.items() if path in names}
    return {name: table for name, table in tables.items() if table is not None}


def _options(trained: TrainedRun) -> dict[str, Any]:
    """The options of the run's evaluation: those of its job; of a run without a job, such as an ensemble, those that it
    logged as parameters."""
    options = dict(compose([], root=trained.run.store.root).config["evaluation"])
    logged = {name: trained.run.params.get(f"evaluation.{name}") for name in options}
    return {**options, **{name: text for name, text in logged.items() if text is not None}, **trained.evaluation}


def _of_evaluation(trained: TrainedRun, name: str) -> dict[str, Any]:
    """The options that differed in the evaluation of a part or data set, as its files say: its calibration, which is
    `none` without one, and how its intervals were computed."""
    folder = artifacts.evaluation(name)
    head = read_stored_json(trained.run, f"{folder}/metrics.json") or {}
    if "calibration" in head:
        return {option: head[key] for option, key in _IN_FILE.items()}
    calibrated = read_stored_json(trained.run, f"{folder}/calibrated.json") or {}  # of runs of earlier versions
    unit = {"bootstrap_unit": head["unit"]} if "unit" in head else {}
    return {"calibration": str(calibrated.get("calibration", NONE)), **unit}


def _has_other_views(name: str) -> bool:
    """Whether predictions have another test-time augmentation than those of the validation part, as their name says."""
    return any(name.endswith(f"-{tta}") for tta in TTA)


def _fitted(validation: pd.DataFrame | None, alpha: float) -> PosthocModels | None:
    if validation is None or has_labels_only(validation):
        return None
    return fit_on_validation(validation, alpha)


def _curves(table: pd.DataFrame, title: str, unit: Unit) -> Iterator[tuple[str, Figure]]:
    known = known_rows(table)
    yield "confusion_matrix", confusion_matrix(known, f"{title}, {len(known):,} images")
    if has_labels_only(known):
        return
    yield "roc", roc_curves(known, f"ROC curves, {title}")
    yield "pr", precision_recall_curves(known, f"precision-recall, {title}")
    yield "reliability", reliability_diagram(known, f"reliability, {title}", unit)
