"""Explains a run's predictions with every method asked for, and keeps what it finds in the run."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import torch

from lesion_exp.config.project import Project
from lesion_exp.evaluation.intervals import Estimate
from lesion_exp.evaluation.predictions import IntArray
from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.random_weights import random_weights_correlation
from lesion_exp.progress import Stage
from lesion_exp.split import PARTS
from lesion_exp.spreadsheet import write_csv
from lesion_exp.tracking.find import Run
from lesion_exp.tracking.params import allowed_name
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.trained_runs.trained_run import WhichWeights
from lesion_exp.verbs.explain.explanation_report import ALL, MEASURES, estimates, measures
from lesion_exp.verbs.explain.gallery import galleries
from lesion_exp.verbs.explain.request import ExplanationRequest
from lesion_exp.verbs.explain.subject import Subject, drawn_positions, gallery_positions, open_subject

log = logging.getLogger(__name__)

FOLDER: Final = "explanations"
CORRELATION: Final = "random_weights_correlation"
_CHECKED: Final = 16
"""Images that are explained once more with random weights."""
_ID_COLUMNS: Final = ("image_id", "row_id", "lesion_id", "label", "prediction")


@dataclass(frozen=True)
class Explained:
    """What a method found."""

    run_id: str
    method: str
    name: str
    """In paths and metrics: the method, and in what the maps are not those of the best weights on the test part."""
    part: str
    num_images: int
    """That were drawn from the part, and explained."""
    table: pd.DataFrame
    """Those of them that have a lesion mask, with the measures of their maps."""
    estimates: Mapping[str, Mapping[str, Estimate]]
    """By group of images (`all`, `right`, `wrong`, a class) and measure; empty where no image has a mask."""
    correlation: float
    """With maps of the network with random weights; NaN where there is no evidence in one of them."""
    galleries: tuple[str, ...]
    """Artifacts of the run."""
    notes: tuple[str, ...] = ()
    """What the method says of the exactness of its maps."""

    @property
    def folder(self) -> str:
        """Where its artifacts lie in the run."""
        return f"{FOLDER}/{self.name}"

    def metrics(self) -> dict[str, float]:
        """The means of all images with their intervals, and the correlation, by their names in MLflow."""
        found = {} if math.isnan(self.correlation) else {CORRELATION: self.correlation}
        for measure, estimate in self.estimates.get(ALL, {}).items():
            found |= {measure: estimate.value, f"{measure}_low": estimate.low, f"{measure}_high": estimate.high}
        return {f"explanation/{self.name}/{measure}": value for measure, value in found.items()}


def explain(run: Run, request: ExplanationRequest, project: Project) -> list[Explained]:
    """What each method finds in the run's predictions; `project` is that of this machine.

    Galleries, the measures of each image and their means are kept below `explanations/METHOD/`, the means also as
    metrics `explanation/METHOD/...`. A first look of the run at its test part is counted.

    Raises:
        ConfigError: a run that trained nothing or has not finished, or a method that its network does not allow.
        DataError: checkpoints or data that are not there, or not what they were.
    """
    subject = open_subject(run, request, project)
    log.info("run %s (%s), %s part, on %s", run.run_id[:8], run.name, subject.part, subject.device.type)
    if not subject.images.has_masks:
        log.warning("no image of this part has a lesion mask: nothing is said of how much evidence lies inside")
    if not _shows_images(request, subject):
        log.warning("no galleries: tracking.log_images=false keeps pictures of patients out of the store")
    found = []
    for method, explainer in request.methods.items():
        with Stage(f"explaining with {method}", announced=False):
            found.append(_explain(method, explainer, subject, request))
    return found


def _explain(method: str, explainer: Explainer, subject: Subject, request: ExplanationRequest) -> Explained:
    began = time.monotonic()
    positions = drawn_positions(len(subject.table), request.num_images(explainer))
    of, in_all = f"{len(positions):,}", f"{len(subject.table):,}"
    log.info("%s: %s of %s images, about %s forward passes an image", method, of, in_all, f"{explainer.passes:,}")
    differs = {
        "val": subject.part == "val",
        "last": request.checkpoint == "last",
        "file": isinstance(request.checkpoint, Path),
    }
    name = "-".join([method, *(word for word, is_so in differs.items() if is_so)])
    run = RunWriter.of(subject.run)
    table = _measured(explainer, subject, positions)
    node = subject.config["evaluation"]
    found = estimates(table, int(node["bootstrap_draws"]), int(node["bootstrap_seed"])) if len(table) else {}
    with Stage("drawing galleries"):
        pictures = _draw(run, method, name, explainer, subject, request) if _shows_images(request, subject) else ()
    notes = explainer.notes  # before the maps of random weights are made
    with Stage(f"comparing with random weights on {len(positions[:_CHECKED])} images"):
        correlation = _check(explainer, subject, positions[:_CHECKED])
    explained = Explained(
        run.run_id, method, name, subject.part, len(positions), table, found, correlation, pictures, notes
    )
    _log(run, explained, explainer, request)
    log.info("%s: %.0f s", method, time.monotonic() - began)
    return explained


def _name(checkpoint: WhichWeights) -> str:
    """Which weights were explained; of a file its name, since the folder is that of one machine."""
    return checkpoint.name if isinstance(checkpoint, Path) else checkpoint


def _shows_images(request: ExplanationRequest, subject: Subject) -> bool:
    return request.log_images and bool(subject.config["tracking"]["log_images"])


def _measured(explainer: Explainer, subject: Subject, positions: IntArray) -> pd.DataFrame:
    """The images at `positions` that have a mask, with the measures of their maps."""
    rows = []
    masks = {int(position): subject.images.mask(int(position)) for position in positions}
    known = positions[[masks[int(position)] is not None for position in positions]]
    for position, evidence in zip(known, subject.maps(explainer, known), strict=True):
        mask = masks[int(position)]
        assert mask is not None, "only those with a mask were explained"
        row = subject.table.iloc[int(position)]
        confidence = float(row[f"p_{row['prediction']}"])
        rows.append({**row[list(_ID_COLUMNS)], "probability": confidence, **measures(evidence, mask)})
    return pd.DataFrame(rows, columns=[*_ID_COLUMNS, "probability", *MEASURES])


def _check(explainer: Explainer, subject: Subject, positions: IntArray) -> float:
    network, images = subject.images.explained(subject.images.samples(positions), subject.device)
    classes = subject.images.restored.classes
    predicted = [classes.index(name) for name in subject.table["prediction"].iloc[positions]]
    return random_weights_correlation(explainer, network, images, torch.tensor(predicted, device=subject.device))


def _draw(
    run: RunWriter, method: str, name: str, explainer: Explainer, subject: Subject, request: ExplanationRequest
) -> tuple[str, ...]:
    def maps(positions: IntArray, column: str) -> Any:
        return subject.maps(explainer, positions, column)

    selection = gallery_positions(subject.table, request.count)
    paths = []
    for label, figure in galleries(selection, subject.table, subject.images, maps, method, request.count):
        paths.append(f"{FOLDER}/{name}/{allowed_name(label)}.png")
        run.log_figure(figure, paths[-1], f"{PARTS[subject.part]} part")
    return tuple(paths)


def _options(explainer: Explainer) -> dict[str, Any]:
    return {key: value for key, value in vars(explainer).items() if not key.startswith("_")}


def _log(run: RunWriter, explained: Explained, explainer: Explainer, request: ExplanationRequest) -> None:
    from lesion_exp.verbs.explain.explanation_report import as_json

    if len(explained.table):
        with run.new_file(f"{explained.folder}/evidence.csv") as path:
            write_csv(explained.table, path)
    content = {**as_json(explained), "options": _options(explainer), "checkpoint": _name(request.checkpoint)}
    run.log_json(content, f"{explained.folder}/evidence.json")
    run.log_late_metrics(explained.metrics())
