"""Checks a run for shortcut learning and stores the report in the run."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.data.lesion_masks import UsableMasks, usable_masks
from lesion_exp.data.store import ImageStore
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.figures.forest_plots import flips_figure
from lesion_exp.evaluation.figures.gallery import image_batch
from lesion_exp.evaluation.flips import SCORES, Flips, flips
from lesion_exp.evaluation.intervals import Estimate, bootstrap, lesion_of, units_of
from lesion_exp.evaluation.metrics import weighted_metrics
from lesion_exp.evaluation.predictions import known_rows
from lesion_exp.progress import Stage
from lesion_exp.split import PARTS
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import Run, download_artifact
from lesion_exp.trained_runs.trained_run import TrainedRun
from lesion_exp.training.data import SplitData
from lesion_exp.training.part_evaluation import EvaluatedPart
from lesion_exp.verbs.shortcuts.perturbations import CONTROL, INSERTIONS, PAINTED, PHOTOGRAPHS, PLAIN, ChangedStore
from lesion_exp.verbs.shortcuts.shallow import (
    file_features,
    majority_predictions,
    metadata_features,
    rim_features,
    shallow_predictions,
)
from lesion_exp.verbs.shortcuts.shortcut_report import COMPARED, MAJORITY, NETWORK, ShortcutReport, as_text

if TYPE_CHECKING:
    from lesion_exp.model.restore import Restored

log = logging.getLogger(__name__)

LEVEL_TAG: Final = "shortcuts"
"""The tag of a checked run, with the most serious level on its test part."""
_EXAMPLES: Final = 4
_COLUMNS: Final = dict(zip(PHOTOGRAPHS, ("image_path", "clinical_path"), strict=True))
"""The columns of a table with the files of the photographs."""


@dataclass(frozen=True)
class Checked:
    """The report, and the path of its figure."""

    report: ShortcutReport
    figure: Path


def check_shortcuts(trained: TrainedRun, part: EvaluatedPart, most_images: int | None = None) -> Checked:
    """Checks a run for shortcut learning on a part of its data, and stores the report.

    Shallow models are fitted on the training part and evaluated on the part. The network predicts the images of the
    part without and with changes, or those of random lesions with up to `most_images` images.

    Raises:
        ConfigError: the run has no network or did not finish, `most_images` is not positive, or the images are of one
            class.
        DataError: the data or the checkpoint are missing or have changed.
    """
    split = trained.data()
    known = known_rows(split.table)
    rows = _drawn(known[known["split"] == part], most_images, int(trained.evaluation["bootstrap_seed"]))
    if rows["label"].nunique() < 2:
        raise ConfigError(
            f"expected images of at least two classes to check, got {len(rows):,} of {rows['label'].iloc[0]} alone in "
            f"the {PARTS[part]} part; check more images (images=), or another part (split.part=)"
        )
    network = trained.network()
    changed = _Changed(network, split.loaded.store, rows, split.loaded.table)
    with Stage("checking for shortcuts", announced=False):
        report = _report(trained, part, split, changed)
    with Stage("drawing figures and storing the report"):
        return Checked(report, _keep(trained.run, report, changed, bool(network.config["tracking"]["log_images"])))


@dataclass(frozen=True)
class _Changed:
    """A network with the rows of the images that are changed for it."""

    network: Restored
    store: ImageStore
    rows: pd.DataFrame
    table: pd.DataFrame
    """The rows of all images of the data set."""

    @cached_property
    def masks(self) -> UsableMasks:
        return usable_masks(self.rows, self.store, self.table)

    @property
    def photographs(self) -> tuple[str, ...]:
        """The planes of the store that the network sees."""
        return PHOTOGRAPHS if self.network.config["dataset"]["view"] == "both" else PHOTOGRAPHS[:1]

    def with_masks(self) -> pd.DataFrame:
        return self.rows[self.rows["image_id"].astype(str).isin(self.masks.places)]

    def images(self, change: str) -> ChangedStore:
        pipeline: AugmentationPipeline = self.network.pipeline
        seed = int(self.network.config["evaluation"]["bootstrap_seed"])
        return ChangedStore(self.store, change, pipeline.fit, self.masks.places, seed, pipeline.crop_share)

    def predictions(self, change: str, rows: pd.DataFrame) -> pd.DataFrame:
        log.info("the network predicts %s images: %s", f"{len(rows):,}", change.replace("_", " "))
        return self.network.predict(rows, self.images(change))


def _report(trained: TrainedRun, part: str, split: SplitData, changed: _Changed) -> ShortcutReport:
    node = trained.evaluation
    plain, control = (changed.predictions(change, changed.rows) for change in (PLAIN, CONTROL))

    def against_plain(table: pd.DataFrame) -> Flips:
        same = plain["row_id"].isin(table["row_id"])
        before, mirrored = (found[same].reset_index(drop=True) for found in (plain, control))
        return flips(before, table, mirrored, node["bootstrap_draws"], node["bootstrap_seed"], node["bootstrap_unit"])

    without_lesions = _without_lesions(split, part, int(node["bootstrap_seed"]), changed.photographs)
    same = {who: table[table["row_id"].isin(plain["row_id"])] for who, table in without_lesions.items()}
    tables = {NETWORK: plain, **{who: table.reset_index(drop=True) for who, table in same.items()}}
    masked = changed.with_masks()
    if masked["label"].nunique() == 1:
        log.info("no lesion is painted over: all images with a mask are of one class, %s", masked["label"].iloc[0])
    painted = None if masked["label"].nunique() < 2 else changed.predictions(PAINTED, masked)
    painted_plain = plain[plain["row_id"].isin(masked["row_id"])]
    return ShortcutReport(
        run_id=trained.run.run_id,
        run_name=trained.run.name,
        part=part,
        images=len(plain),
        lesions=lesion_of(plain)[1],
        scores={who: _scores(table, node) for who, table in tables.items()},
        control=against_plain(control),
        inserted={name: against_plain(changed.predictions(name, changed.rows)) for name in INSERTIONS},
        painted=None if painted is None else against_plain(painted),
        painted_own=None if painted is None else _scores(painted_plain, node)[COMPARED],
        notes=() if painted is None else changed.masks.notes,
        two_photographs=len(changed.photographs) > 1,
    )


def _without_lesions(split: SplitData, part: str, seed: int, photographs: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The predictions of models that never see a lesion, by model."""
    table = known_rows(split.table[split.table["split"].isin(["train", part])]).reset_index(drop=True)
    rims = [rim_features(table, split.loaded.store, plane).add_prefix(f"{plane}_") for plane in photographs]
    files = [file_features(table, _COLUMNS[plane]).add_prefix(f"{plane}_") for plane in photographs]
    rim, file = pd.concat(rims, axis=1), pd.concat(files, axis=1)
    known = {
        "metadata": metadata_features(table),
        "rim_and_file": pd.concat([rim, file], axis=1),
        "rim": rim,
        "file": file,
    }
    models = {}
    with Stage("fitting", len(known), "models that never see a lesion") as stage:
        for name, features in known.items():
            models[name] = shallow_predictions(features, table, part, split.classes, seed)
            stage.advance()
    return {MAJORITY: majority_predictions(table, part, split.classes), **models}


def _scores(table: pd.DataFrame, node: Mapping[str, Any]) -> dict[str, Estimate]:
    group, num_groups = units_of(table, node["bootstrap_unit"])
    at = weighted_metrics(table, group, num_groups, SCORES)
    return bootstrap(at, num_groups, node["bootstrap_draws"], node["bootstrap_seed"])


def _drawn(rows: pd.DataFrame, most_images: int | None, seed: int) -> pd.DataFrame:
    """Random lesions of `rows` with at most `most_images` images in total, at least one lesion; all rows for None."""
    if most_images is None or most_images >= len(rows):
        return rows
    if most_images < 1:
        raise ConfigError(f"expected images= to be at least 1, got {most_images}; leave it out for all images")
    lesion, num_lesions = lesion_of(rows)
    place = np.random.default_rng([seed, 0x5C]).permutation(num_lesions)[lesion]
    sizes = np.bincount(place, minlength=num_lesions).cumsum()
    return rows[place < max(1, int(np.searchsorted(sizes, most_images, "right")))]


def _keep(run: Run, report: ShortcutReport, changed: _Changed, with_images: bool) -> Path:
    folder = "shortcuts" if report.part == "test" else f"shortcuts/{report.part}"
    written = RunWriter.of(run)
    written.log_json(report.to_dict(), f"{folder}/report.json")
    written.log_text(as_text(report) + "\n", f"{folder}/report.txt")
    shown = {CONTROL: report.control, **report.inserted, **({PAINTED: report.painted} if report.painted else {})}
    about = f"{PARTS[report.part]} part"
    written.log_figure(
        flips_figure(shown, f"{report.run_name}, {report.images:,} images"), f"{folder}/flips.png", about
    )
    if with_images:
        written.log_figure(_examples(changed), f"{folder}/examples.png", about)
    written.log_late_metrics({f"{folder}/{name}": value for name, value in report.metrics().items()})
    if report.part == "test":
        run.store.client.set_tag(run.run_id, LEVEL_TAG, report.level)
    return download_artifact(find_run(run.store, run.run_id), f"{folder}/flips.png")


def _examples(changed: _Changed) -> Any:
    """A figure of a few images, with a column for each change and a row for each photograph."""
    masked = changed.with_masks()
    rows = (changed.rows if masked.empty else masked).drop_duplicates("group").head(_EXAMPLES)
    changes = [PLAIN, CONTROL, *INSERTIONS, *([] if masked.empty else [PAINTED])]
    stores = [changed.images(change) for change in changes]
    pictures, titles = [], []
    for image_id, plane in itertools.product(rows["image_id"], changed.photographs):
        for change, store in zip(changes, stores, strict=True):
            image = store.read(int(store.rows(pd.Series([image_id]))[0]), plane)
            pictures.append(changed.network.pipeline.evaluate(image, None)[0])
            titles.append(change.replace("_", " "))
    return image_batch(np.stack(pictures), titles, columns=len(changes))
