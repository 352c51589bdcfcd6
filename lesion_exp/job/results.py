"""What a finished fit leaves in the run: predictions, metrics, pictures, checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from lesion_exp.data.datamodule import LesionDataModule, Part, stack_images
from lesion_exp.evaluation.figures.class_distribution import class_distribution
from lesion_exp.evaluation.figures.confusion_matrix import confusion_matrix
from lesion_exp.evaluation.figures.curves import precision_recall_curves, roc_curves
from lesion_exp.evaluation.figures.image_batch import image_batch
from lesion_exp.evaluation.figures.reliability import reliability_diagram
from lesion_exp.evaluation.fitted import Fitted, fit_on_validation
from lesion_exp.evaluation.intervals import units_of
from lesion_exp.evaluation.predictions import classes_of, predictions_table
from lesion_exp.evaluation.report import classification_report, confusion_matrix_data
from lesion_exp.evaluation.study import Study, StudyOptions, study, with_intervals
from lesion_exp.job.data import SplitData, class_names, published_differences
from lesion_exp.split.manifest import manifest
from lesion_exp.task import LesionClassifier, gather_rows
from lesion_exp.tracking.environment import environment, source_state
from lesion_exp.tracking.note import description
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.written import Written

BATCH_PICTURE = 24


def predict_part(
    trainer: pl.Trainer, classifier: LesionClassifier, datamodule: LesionDataModule, part: Part
) -> pd.DataFrame:
    """The predictions table of `part`, every image once, the same on every rank."""
    datamodule.trainer = trainer
    loader = datamodule.evaluation_dataloader(part)
    batches = trainer.predict(classifier, dataloaders=loader) or []
    index, probs = (torch.cat(column).cpu().float() for column in zip(*batches, strict=True))
    positions, values = gather_rows(index.long().numpy(), probs.numpy())
    rows = datamodule.parts[part].iloc[positions].reset_index(drop=True)
    return predictions_table(rows, values, classifier.options.classes)


def fit_evaluation(table: pd.DataFrame, config: Mapping[str, Any]) -> Fitted:
    """What is fitted on the predictions of the validation part."""
    return fit_on_validation(table, config["evaluation"]["conformal_alpha"])


def check_evaluation(config: Mapping[str, Any], split: SplitData) -> None:
    """Nothing, if what `config` asks of the evaluation can be had on this data set: to be known before training.

    Raises:
        ConfigError: intervals over patients, whom nobody noted.
    """
    for _, rows in split.table.groupby("split"):
        units_of(rows, config["evaluation"]["bootstrap_unit"])


def evaluate(table: pd.DataFrame, config: Mapping[str, Any], fitted: Fitted | None) -> Study:
    """All that is reported of a predictions table; of the validation part, without what is fitted on it."""
    node = config["evaluation"]
    options = StudyOptions(node["bootstrap_draws"], node["bootstrap_seed"], node["bootstrap_unit"], node["calibration"])
    return study(table, fitted, options)


def log_inputs(run: TrackedRun, config: Mapping[str, Any], split: SplitData, datamodule: LesionDataModule) -> None:
    """Logs what the run is made from: split, audit, data flow, class counts, environment, a batch of images."""
    loaded = split.loaded
    run.log_table(manifest(split.table), "split/manifest.parquet")
    run.log_json(split.audit.to_dict(), "split/audit.json")
    flow = {
        "steps": [{"step": s.step, "images": s.images, "lesions": s.lesions} for s in loaded.flow.steps],
        "left_out": [{"image_id": image_id, "reason": reason} for image_id, reason in loaded.flow.left_out],
        "differs_from_published": published_differences(loaded),
    }
    run.log_json(flow, "dataset/flow.json")
    run.log_figure(class_distribution(split.table), "dataset/classes.png")
    if config["tracking"]["log_images"]:
        rows = datamodule.parts["train"]
        order = datamodule.sampler.order(rows, np.random.default_rng([config["seed"], 0]))[:BATCH_PICTURE]
        dataset = datamodule.dataset("train", training=True)
        titles = [str(rows.loc[position, "label"]) for position in order]
        run.log_figure(image_batch(stack_images(dataset, order), titles), "dataset/batch.png")
    contexts = {"train": "training", "val": "validation", "test": "testing"}
    columns = ["image_id", "label", "lesion_id", "age", "sex", "site", "source"]
    for part, context in contexts.items():
        counts = split.audit.parts[part]["counts"]
        run.log_dataset(
            datamodule.parts[part][columns],
            f"{config['dataset']['name']} {part}",
            fingerprint=f"{loaded.fingerprint}{split.split_hash}",
            source=loaded.info.where if loaded.info else config["dataset"]["name"],
            context=context,  # type: ignore[arg-type]
            profile=counts,
        )
    for name, text in environment(source_state(), torch.get_num_threads()).items():
        run.log_text(text, f"environment/{name}")


def log_evaluation(run: Written, part: Part, evaluated: Study) -> None:
    """Logs a part's predictions, report, confusion matrix, curves and study."""
    table = evaluated.table
    run.log_table(table, f"predictions/{part}.parquet")
    names, unit = class_names(classes_of(table)), evaluated.options.unit
    text, data = classification_report(table, evaluated.intervals, names, unit)
    run.log_text(text, f"classification_report/{part}.txt")
    run.log_json(data, f"classification_report/{part}.json")
    run.log_json(confusion_matrix_data(table), f"confusion_matrix/{part}.json")
    name = {"val": "validation", "test": "test"}[part]
    run.log_figure(confusion_matrix(table, f"{name} part, {len(table):,} images"), f"confusion_matrix/{part}.png")
    run.log_figure(roc_curves(table, f"ROC curves, {name} part"), f"curves/roc_{part}.png")
    run.log_figure(precision_recall_curves(table, f"precision-recall, {name} part"), f"curves/pr_{part}.png")
    run.log_figure(reliability_diagram(table, f"reliability, {name}"), f"curves/reliability_{part}.png")
    log_study(run, f"evaluation/{part}", evaluated, f"{name} part, {len(table):,} images" if part == "test" else None)


def log_study(run: Written, folder: str, evaluated: Study, title: str | None) -> None:
    """Logs the files of a study below `folder`, and with a title its pictures."""
    for name, content in evaluated.files().items():
        run.log_json(content, f"{folder}/{name}")
    if title is not None:
        for name, figure in evaluated.figures(title):
            run.log_figure(figure, f"{folder}/{name}")


def log_fitted(run: Written, fitted: Fitted) -> None:
    """Keeps what was fitted on validation, for `evaluate`, `predict` and whoever else uses the model."""
    for path, content in fitted.files().items():
        run.log_json(content, path)


def final_metrics(best_epoch: Mapping[str, float], test: Study | None) -> dict[str, float]:
    """The metrics that sum a run up: `best/val/...` of the best epoch, `test/...` with intervals, and the sections."""
    values = {f"best/{name}": value for name, value in best_epoch.items()}
    if test is not None:
        values |= part_metrics("test", test) | test.logged()
    return values


def part_metrics(prefix: str, evaluated: Study) -> dict[str, float]:
    """The plain metrics below `prefix`, each with its interval; the log loss is called `loss`, as in training."""
    plain = with_intervals(evaluated.metrics, evaluated.estimates)
    return {f"{prefix}/{re.sub('^nll', 'loss', name)}": value for name, value in plain.items()}


def log_checkpoints(run: TrackedRun, best: Path | None, last: Path | None) -> None:
    """Keeps the best and the last checkpoint with the run."""
    for name, path in (("best", best), ("last", last)):
        if path is not None and path.is_file():
            run.log_file(path, f"checkpoints/{name}.ckpt")


def describe_run(
    config: Mapping[str, Any], split: SplitData, choices: Mapping[str, str], metrics: Mapping[str, float]
) -> dict[str, str]:
    """The tag with the run's description, shown at its top in MLflow's page."""
    trainer = config["trainer"]
    title = (
        f"{choices['backbone']} on {choices['dataset']} ({config['task']['target']}), {config['image_size']} px, "
        f"{trainer['max_epochs']} epochs, split {choices['split']}, seed {config['seed']}"
    )
    counts = {
        part: {key: int(numbers[key]) for key in ("images", "lesions")} for part, numbers in split.audit.parts.items()
    }
    warnings = ["LEAKY: parts of the training data reappear in validation or test"] if split.leaky else []
    return description(title, counts, metrics, [*warnings, *split.audit.warnings])
