"""Computes saliency maps of a run's predictions by several methods, and stores them with their galleries in the run."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lesion_exp import taxonomy
from lesion_exp.config.project import Project
from lesion_exp.evaluation.figures.gallery import Block, saliency_gallery
from lesion_exp.evaluation.figures.style import shortened
from lesion_exp.evaluation.intervals import Estimate
from lesion_exp.evaluation.predictions import IntArray, probabilities
from lesion_exp.explanation.explainer import Explainer
from lesion_exp.explanation.random_weights import random_weights_correlation
from lesion_exp.explanation.saliency_map import FloatMap, overlay
from lesion_exp.progress import Stage
from lesion_exp.split import PARTS
from lesion_exp.text_table import write_csv
from lesion_exp.tracking.mlflow_values import allowed_name
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import Run
from lesion_exp.trained_runs.trained_run import WhichWeights, trained_run
from lesion_exp.verbs.explain.explained_part import (
    KINDS,
    ExplainedPart,
    Kind,
    PartImages,
    Selection,
    drawn_positions,
    gallery_positions,
    open_part,
)
from lesion_exp.verbs.explain.explanation_report import ALL, MEASURES, as_json, estimates, measures
from lesion_exp.verbs.explain.request import ExplanationRequest

_TITLE_LENGTH: Final = 72
Maps = Callable[[IntArray, str], list[FloatMap]]
"""A function from positions and the column with the explained class (`prediction` or `label`) to maps."""
log = logging.getLogger(__name__)
FOLDER: Final = "explanations"
CORRELATION: Final = "random_weights_correlation"
_CHECKED: Final = 16
"""The number of images whose maps are also computed with random weights."""
_ID_COLUMNS: Final = ("image_id", "row_id", "lesion_id", "label", "prediction")


def galleries(
    selection: Selection, table: pd.DataFrame, images: PartImages, maps: Maps, method: str, columns: int
) -> Iterator[tuple[str, Figure]]:
    """Yields the name and the gallery of each class in `selection`."""
    for name, kinds in selection.items():
        mine = table["label"] == name
        counts = {"right": int((mine & (table["prediction"] == name)).sum())}
        counts["wrong"] = int(mine.sum()) - counts["right"]
        blocks = [_block(kind, kinds[kind], counts, name, table, images, maps) for kind in KINDS]
        title = shortened(f"{method}: {name}, {taxonomy.full_name(name)}", _TITLE_LENGTH)
        yield name, saliency_gallery(blocks, title, columns)


def _block(
    kind: Kind,
    positions: IntArray,
    counts: dict[str, int],
    name: str,
    table: pd.DataFrame,
    images: PartImages,
    maps: Maps,
) -> Block:
    total = counts["right" if kind == "right" else "wrong"]
    if not len(positions):
        none_left = kind == "wrong" and total
        return Block(
            kind,
            [],
            [],
            [],
            empty="all of them, or other images of their lesions, are shown above" if none_left else "none",
        )
    batch: Any = images.samples(positions)
    plain = [np.ascontiguousarray(image[:3].permute(1, 2, 0).numpy()) for image in batch["image"]]
    rows = [("image", plain), ("for the\npredicted class", _over(plain, maps(positions, "prediction")))]
    if kind != "right":
        rows.append(("for the\ntrue class", _over(plain, maps(positions, "label"))))
    masks = [images.mask(int(position)) for position in positions]
    shown = f"{len(positions)} of {total:,}" if kind != "wrong" else f"{len(positions)} others of {total:,}"
    return Block(f"{kind} ({shown})", [_caption(table, int(position)) for position in positions], rows, masks)


def _caption(table: pd.DataFrame, position: int) -> str:
    row = table.iloc[position]
    return f"{row['image_id']}\n{row['label']} → {row['prediction']} {probabilities(table)[position].max():.2f}"


def _over(images: list[np.ndarray], maps: list[FloatMap]) -> list[np.ndarray]:
    return [overlay(image, saliency) for image, saliency in zip(images, maps, strict=True)]


@dataclass(frozen=True)
class Explained:
    """The results of a method."""

    run_id: str
    method: str
    name: str
    """The name in paths and metrics: the method, followed by `val`, `last` or `file` if the maps are not those of the
    best weights on the test part."""
    part: str
    num_images: int
    """The number of explained images."""
    table: pd.DataFrame
    """The explained images with a lesion mask, and the measures of their maps."""
    estimates: Mapping[str, Mapping[str, Estimate]]
    """By group of images (`all`, `right`, `wrong`, a class) and measure; empty if no image has a mask."""
    correlation: float
    """The rank correlation with the maps of random weights; NaN if it is undefined."""
    galleries: tuple[str, ...]
    """The paths of the galleries in the run."""
    notes: tuple[str, ...] = ()
    """Remarks of the method on the accuracy of its maps, and what is assumed of the lesion masks."""

    @property
    def folder(self) -> str:
        """The folder of the results in the run."""
        return f"{FOLDER}/{self.name}"

    def metrics(self) -> dict[str, float]:
        """Returns the means over all images with their intervals, and the correlation, by their names in MLflow."""
        found = {} if math.isnan(self.correlation) else {CORRELATION: self.correlation}
        for measure, estimate in self.estimates.get(ALL, {}).items():
            found |= {measure: estimate.value, f"{measure}_low": estimate.low, f"{measure}_high": estimate.high}
        return {f"explanation/{self.name}/{measure}": value for measure, value in found.items()}


def explain(run: Run, request: ExplanationRequest, project: Project) -> list[Explained]:
    """Computes the saliency maps of a run's predictions by each method of `request`, and stores the results.

    Galleries, the measures of each image and their means are stored below `explanations/METHOD/`, the means also as
    metrics `explanation/METHOD/...`. If the run has not evaluated its test part before, this counts as a test-set read.

    Args:
        run: a run with a network.
        request: the methods, the part and the numbers of images.
        project: the project of this machine.

    Raises:
        ConfigError: the run has no network or has not finished, or a method does not fit the network.
        DataError: checkpoints or data are missing or have changed.
    """
    if isinstance(request.checkpoint, Path) and trained_run(run, project).has_best_weights(request.checkpoint):
        request = replace(request, checkpoint="best")
    part = open_part(run, request, project)
    log.info("run %s (%s), %s part, on %s", run.run_id[:8], run.name, part.part, part.device.type)
    if not part.images.has_masks:
        log.warning(
            "no image of this part has a lesion mask to use, so the share of saliency inside lesions is not measured"
        )
    if not _shows_images(request, part):
        log.warning(
            "no galleries are stored, because tracking.log_images=false keeps images of patients out of the store"
        )
    found = []
    for method, explainer in request.methods.items():
        with Stage(f"explaining with {method}", announced=False):
            found.append(_explain(method, explainer, part, request))
    return found


def _explain(method: str, explainer: Explainer, part: ExplainedPart, request: ExplanationRequest) -> Explained:
    began = time.monotonic()
    positions = drawn_positions(len(part.table), request.num_images(explainer))
    num_drawn, num_all, passes = f"{len(positions):,}", f"{len(part.table):,}", f"{explainer.passes:,}"
    log.info("%s: %s of %s images, about %s forward passes for each image", method, num_drawn, num_all, passes)
    differs = {
        "val": part.part == "val",
        "last": request.checkpoint == "last",
        "file": isinstance(request.checkpoint, Path),
    }
    name = "-".join([method, *(word for word, is_so in differs.items() if is_so)])
    run = RunWriter.of(part.run)
    table = _measured(explainer, part, positions)
    node = part.config["evaluation"]
    found = estimates(table, int(node["bootstrap_draws"]), int(node["bootstrap_seed"])) if len(table) else {}
    with Stage("drawing galleries"):
        pictures = _draw(run, method, name, explainer, part, request) if _shows_images(request, part) else ()
    of_method = explainer.notes  # the maps of random weights, which follow, must not change them
    with Stage(f"comparing with random weights on {len(positions[:_CHECKED])} images"):
        correlation = _check(explainer, part, positions[:_CHECKED])
    explained = Explained(
        run.run_id,
        method,
        name,
        part.part,
        len(positions),
        table,
        found,
        correlation,
        pictures,
        (*of_method, *part.images.mask_notes),
    )
    _log(run, explained, explainer, request)
    log.info("%s: %.0f s", method, time.monotonic() - began)
    return explained


def _name(checkpoint: WhichWeights) -> str:
    """The name of the weights; for a file its name without its folder, which belongs to one machine."""
    return checkpoint.name if isinstance(checkpoint, Path) else checkpoint


def _shows_images(request: ExplanationRequest, part: ExplainedPart) -> bool:
    return request.log_images and bool(part.config["tracking"]["log_images"])


def _measured(explainer: Explainer, part: ExplainedPart, positions: IntArray) -> pd.DataFrame:
    """The images at `positions` with a mask, and the measures of their maps."""
    rows = []
    masks = {int(position): part.images.mask(int(position)) for position in positions}
    known = positions[[masks[int(position)] is not None for position in positions]]
    for position, saliency in zip(known, part.maps(explainer, known), strict=True):
        mask = masks[int(position)]
        assert mask is not None, "only images with a mask are explained here"
        row = part.table.iloc[int(position)]
        confidence = float(row[f"p_{row['prediction']}"])
        rows.append({**row[list(_ID_COLUMNS)], "probability": confidence, **measures(saliency, mask)})
    return pd.DataFrame(rows, columns=[*_ID_COLUMNS, "probability", *MEASURES])


def _check(explainer: Explainer, part: ExplainedPart, positions: IntArray) -> float:
    """The rank correlation of the maps with those of random weights."""
    network, images = part.images.explained(part.images.samples(positions), part.device)
    classes = part.images.restored.classes
    predicted = [classes.index(name) for name in part.table["prediction"].iloc[positions]]
    return random_weights_correlation(explainer, network, images, torch.tensor(predicted, device=part.device))


def _draw(
    run: RunWriter, method: str, name: str, explainer: Explainer, part: ExplainedPart, request: ExplanationRequest
) -> tuple[str, ...]:
    """Draws and logs the galleries, and returns their paths."""

    def maps(positions: IntArray, column: str) -> Any:
        return part.maps(explainer, positions, column)

    selection = gallery_positions(part.table, request.count)
    paths = []
    for label, figure in galleries(selection, part.table, part.images, maps, method, request.count):
        paths.append(f"{FOLDER}/{name}/{allowed_name(label)}.png")
        run.log_figure(figure, paths[-1], f"{PARTS[part.part]} part")
    return tuple(paths)


def _options(explainer: Explainer) -> dict[str, Any]:
    """The options of a method, which are its public attributes."""
    return {key: value for key, value in vars(explainer).items() if not key.startswith("_")}


def _log(run: RunWriter, explained: Explained, explainer: Explainer, request: ExplanationRequest) -> None:
    if len(explained.table):
        with run.new_file(f"{explained.folder}/evidence.csv") as path:
            write_csv(explained.table, path)
    content = {**as_json(explained), "options": _options(explainer), "checkpoint": _name(request.checkpoint)}
    run.log_json(content, f"{explained.folder}/evidence.json")
    run.log_late_metrics(explained.metrics())
