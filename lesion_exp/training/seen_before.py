"""Finds out what the weights that a run starts from have seen, and says so in the run and in its audit."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd

from lesion_exp.backbone.hub import HUB, hub_weights
from lesion_exp.backbone.weights_card import run_of_weights
from lesion_exp.config.project import Project
from lesion_exp.dataset.id_origin import has_ids_of_a_folder, with_id_origin
from lesion_exp.dataset.table import UNLABELLED
from lesion_exp.errors import ConfigError, DataError, LeakageError
from lesion_exp.evaluation.registry import PROBE_METRIC
from lesion_exp.pretrain import chosen_parts
from lesion_exp.split.seen_before import (
    CHOSEN,
    IMAGES,
    LABELS,
    PROBED,
    SeenBefore,
    find_seen,
    same_ids_elsewhere,
    seen_rows,
)
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.stored_run import SEEN_TAG, Run, read_stored_table
from lesion_exp.training.data import SplitData
from lesion_exp.training.tracked import job_of

log = logging.getLogger(__name__)

UNKNOWN_TEXT: Final = "images that are not known here, since a run that made the weights is not in this store"
TRANSDUCTIVE: Final = "results on these images are transductive: they may be better than on images that nobody has seen"


@dataclass(frozen=True)
class Inherited:
    """What the initial weights of a job have seen."""

    table: pd.DataFrame | None
    """The rows of the runs behind the weights (`seen_rows`); None if the store lacks the run that made them."""
    found: SeenBefore | None
    """Which images of the job's split are among them; None likewise."""
    is_whole: bool
    """Whether all runs behind the weights are known."""

    @property
    def in_words(self) -> str:
        """What was seen of validation and test; empty if nothing was."""
        words = ["" if self.found is None else self.found.in_words(), "" if self.is_whole else UNKNOWN_TEXT]
        return ", and ".join(filter(None, words))


def inherited(config: Mapping[str, Any], split: SplitData) -> Inherited | None:
    """Returns what the initial weights of the job `config` have seen.

    Returns None if they are not the weights of a run of this project.

    Raises:
        ConfigError: they are weights of the hub that cannot be fetched.
    """
    node = config["backbone"]
    weights = str(node.get("weights", "none"))
    run_id = node.get("weights_run") or maker_of(weights)
    if run_id is None:
        return None
    try:
        run = find_run(Project.from_config(config).store, str(run_id))
        seen = seen_by(run)
    except (ConfigError, DataError) as error:
        log.warning("warning: it is not known what the weights of run %s have seen: %s", run_id, error)
        return Inherited(None, None, is_whole=False)
    is_whole = UNKNOWN_TEXT not in run.tags.get(SEEN_TAG, "")
    table = with_id_origin(split.table, config["dataset"])
    warn_of_same_ids(table[table["split"].isin(["val", "test"])], seen, config["dataset"])
    return Inherited(seen, find_seen(table, seen), is_whole=is_whole)


def warn_of_same_ids(table: pd.DataFrame, seen: pd.DataFrame, dataset: Mapping[str, Any]) -> None:
    """Warns if images of the user's own data have ids of lesions or patients that were `seen` in another folder's data.

    Args:
        table: the images to be evaluated, with `ID_ORIGIN`.
        seen: what was seen (`seen_rows`).
        dataset: the node `dataset` of their config.
    """
    doubtful = table.loc[same_ids_elsewhere(table, seen), "image_id"]
    if len(doubtful) and has_ids_of_a_folder(dataset):
        log.warning(
            "warning: %s of the %s images to be evaluated have the id of a lesion or a patient that run %s has seen in "
            "data of another folder (%s). It is not known whether the ids mean the same patients; if they do, leave "
            "these images out with dataset.filter",
            f"{len(doubtful):,}",
            f"{len(table):,}",
            ", ".join(sorted(set(seen["run_id"]))),
            ", ".join(map(str, doubtful[:3])),
        )


def maker_of(weights: str) -> str | None:
    """Returns the id of the run that made `weights`, a file or weights of the hub; None for others."""
    if weights.startswith(HUB):
        return run_of_weights(hub_weights(weights).file)
    return run_of_weights(Path(weights)) if Path(weights).is_absolute() else None


def seen_by(run: Run) -> pd.DataFrame:
    """Everything that the weights of `run` have seen, in its own training and in those before (`seen_rows`).

    Raises:
        DataError, ConfigError: the run keeps no split, or no job.
    """
    pretraining = job_of(run).config.get("pretrain")
    uses: dict[str, tuple[str, ...]] = {LABELS: ("train",), CHOSEN: ("val",)}
    if pretraining is not None:
        uses = {IMAGES: chosen_parts(pretraining["parts"])}
        uses |= {PROBED: ("val",)} if f"best/{PROBE_METRIC}" in run.metrics else {}
    before = read_stored_table(run, artifacts.SEEN_BEFORE)
    own = [rows_of(run, parts, use) for use, parts in uses.items()]
    return pd.concat([*own, *([] if before is None else [before])], ignore_index=True)


def rows_of(run: Run, parts: Sequence[str], use: str = LABELS) -> pd.DataFrame:
    """Returns what `run` itself saw in these `parts` of its split (`seen_rows`).

    Raises:
        DataError, ConfigError: the run keeps no split, or no job.
    """
    manifest = read_stored_table(run, artifacts.MANIFEST)
    if manifest is None:
        raise DataError(f"expected {artifacts.MANIFEST} among the artifacts of run {run.run_id}, but it is not there")
    if use == PROBED:
        manifest = manifest[manifest["label"] != UNLABELLED]
    manifest = with_id_origin(manifest, job_of(run).config["dataset"])
    return seen_rows(manifest, parts, run.tags.get("split_hash", ""), run.run_id, use)


def with_inherited(config: Mapping[str, Any], split: SplitData) -> tuple[SplitData, Inherited | None]:
    """`split` with a warning in its audit if the initial weights have seen images of its validation or test part.

    Images seen with their labels are a leak. Images seen without labels are a milder one, which the field reports as a
    transductive setting: it is allowed, and every result says so.

    Raises:
        LeakageError: the weights were trained on labels of validation or test images, and `split.allow_leakage` is not
            true.
    """
    found = inherited(config, split)
    if found is None or not found.in_words:
        return split, found
    leaks = found.found is not None and found.found.count(LABELS) > 0
    if leaks and not config["split"]["allow_leakage"]:
        assert found.found is not None
        raise LeakageError(
            f"expected initial weights that were trained on no image of this split's validation and test part, but "
            f"those of run "
            f"{', '.join(found.found.runs)} have seen {found.in_words}, such as {', '.join(found.found.cases[:3])}; "
            f"use the split that they were trained with (split.seed, dataset.limit and dataset.filter alike), or "
            f"split.allow_leakage=true to train all the same (every result is then tagged leaky)"
        )
    text = f"the initial weights have seen {found.in_words}"
    if found.found is not None and found.found.in_words() and not leaks:
        text += f"; {TRANSDUCTIVE}"
    changed = replace(split.audit, warnings=[*split.audit.warnings, text])
    return replace(split, audit=changed, leaky=split.leaky or leaks), found


def log_inherited(run: TrackedRun, found: Inherited | None, taught: pd.DataFrame | None = None) -> None:
    """Logs what the initial weights have seen, so that runs that start from the weights of this one know it, too.

    `taught` is what the teacher and the runs of pseudo-labels have seen (`seen_by_lineage`).
    """
    tables = [table for table in (None if found is None else found.table, taught) if table is not None]
    if tables:
        run.log_table(pd.concat(tables, ignore_index=True), artifacts.SEEN_BEFORE)
    if found is None:
        return
    if found.table is not None and found.found is not None:
        run.log_json(found.found.to_dict(), artifacts.SEEN_IN_SPLIT)
    if found.in_words:
        run.set_tags({SEEN_TAG: found.in_words})
