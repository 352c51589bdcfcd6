"""The verb `audit`: reads a data set and a split, also a published one, and says what the split leaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from lesion_exp.config.freeze import Job
from lesion_exp.progress import Stage
from lesion_exp.split import PARTS
from lesion_exp.split.assign import apply_splitter
from lesion_exp.split.audit import MOST_CASES, Audit
from lesion_exp.split.audit import audit as audit_split
from lesion_exp.split.file import File
from lesion_exp.split.manifest import split_hash
from lesion_exp.split.official import Official
from lesion_exp.split.overlap import ANY, Overlap, overlap
from lesion_exp.tracking.stored_run import Run, read_predictions
from lesion_exp.trained_runs.wording import counted, listed
from lesion_exp.training.data import load_data, make_splitter, with_groups
from lesion_exp.verbs.audit.listed_parts import ListedParts, parts_of_dataset, parts_of_lists, parts_of_table
from lesion_exp.verbs.audit.quotation import quotation
from lesion_exp.verbs.audit.scores import Scores, read_predicted, scores

COMPARED: Final = (("test", "train"), ("test", "val"), ("val", "train"))
"""Pairs of an evaluated part and a part that was seen before."""
_CASES: Final = 3
"""Names of which a note shows at most so many."""


@dataclass(frozen=True)
class SplitAudit:
    """What a split of a data set leaks."""

    dataset: str
    parts: ListedParts
    audit: Audit
    split_hash: str
    overlaps: tuple[Overlap, ...]
    scores: Scores | None
    notes: tuple[str, ...]
    """What a reader has to know about the files, one sentence each."""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON and for the page."""
        return {
            "dataset": self.dataset,
            "split": list(self.parts.sources),
            "split_hash": self.split_hash,
            "passed": self.audit.passed,
            "paragraph": self.paragraph(),
            "notes": list(self.notes),
            "images_left_out": self.parts.left_out,
            "names_not_found": {"count": len(self.parts.not_found), "cases": self.parts.not_found[:MOST_CASES]},
            "images_listed_again": self.parts.repeated,
            "images_in_several_parts": self.parts.several_parts,
            "overlaps": [each.to_dict() for each in self.overlaps],
            "scores": None if self.scores is None else self.scores.to_dict(),
            "audit": self.audit.to_dict(),
        }

    def paragraph(self) -> str:
        """Returns a paragraph that can be quoted."""
        return quotation(self.dataset, self.audit, self.overlaps, self.scores)


def audit(
    job: Job, lists: Mapping[str, Sequence[Path]], predictions: Path | None = None, run: Run | None = None
) -> SplitAudit:
    """Reads the data set of `job` and audits a split of it.

    Args:
        job: the data set, and the split unless `lists` gives one.
        lists: part -> files or folders that list its images; empty if the split is that of the job.
        predictions: a file with predictions of test images.
        run: a run whose stored predictions of its test part are scored.

    Raises:
        UserError: the data set, the split or the predictions cannot be read.
    """
    config = job.config
    loaded = load_data(config)
    with Stage("splitting the data"):
        grouped = with_groups(config["split"], loaded.table)
        parts = parts_of_lists(grouped, lists) if lists else _parts_of(config["split"], grouped)
    table, threshold = parts.table, float(config["split"]["near_duplicate_threshold"])
    with Stage("auditing the split"):
        present = set(table["split"])
        overlaps = tuple(overlap(table, *pair, threshold) for pair in COMPARED if set(pair) <= present)
        audited = audit_split(table, threshold)
    found, digest = None, split_hash(table)
    notes = _notes(parts)
    given: tuple[pd.DataFrame, str] | None = None
    if predictions is not None:
        given = read_predicted(predictions), predictions.name
    elif run is not None:
        given = read_predictions(run, "test", with_unknown=True), f"run {run.run_id[:8]}"
    if given is not None:
        evaluation = config["evaluation"]
        draws, seed = int(evaluation["bootstrap_draws"]), int(evaluation["bootstrap_seed"])
        found = scores(table, overlaps[0].rows[ANY], *given, draws, seed)
        notes += _notes_of_scores(found, run, digest)
    return SplitAudit(config["dataset"]["name"], parts, audited, digest, overlaps, found, tuple(notes))


def _parts_of(node: Mapping[str, Any], grouped: pd.DataFrame) -> ListedParts:
    splitter = make_splitter(node)
    if isinstance(splitter, File):
        return parts_of_table(grouped, splitter.path)
    if isinstance(splitter, Official):
        return parts_of_dataset(grouped)
    table = apply_splitter(splitter, grouped)
    left_out = len(set(grouped["image_id"]) - set(table["image_id"]))
    several = int((table.groupby("image_id")["split"].nunique() > 1).sum())
    return ListedParts(table.reset_index(drop=True), left_out, (), 0, several, (f"split={type(splitter).__name__}",))


def _notes(parts: ListedParts) -> list[str]:
    notes = []
    if count := parts.left_out:
        notes.append(f"{counted(count, 'image')} of the data set {_is(count)} in no part and {_does_not_count(count)}")
    if count := len(parts.not_found):
        more = ", ..." if count > _CASES else ""
        notes.append(
            f"{counted(count, 'name')} of the split {_is(count)} not among the images of the data "
            f"set ({', '.join(parts.not_found[:_CASES])}{more})"
        )
    if count := parts.repeated:
        names = "names" if count == 1 else "name"
        notes.append(f"{counted(count, 'row')} {names} an image of the same part again and {_does_not_count(count)}")
    if count := parts.several_parts:
        notes.append(f"{counted(count, 'image')} {_is(count)} listed in several parts")
    absent = [PARTS[part] for part in PARTS if part not in set(parts.table["split"])]
    return [*notes, *([f"the split has no {listed(absent)} part"] if absent else [])]


def _notes_of_scores(found: Scores, run: Run | None, digest: str) -> list[str]:
    notes = [*found.notes]
    if found.missing:
        have = "has" if found.missing == 1 else "have"
        notes.append(
            f"{counted(found.missing, 'test image')} {have} no prediction in {found.source} and "
            f"{_does_not_count(found.missing)}"
        )
    if found.others:
        notes.append(
            f"{counted(found.others, 'prediction')} in {found.source} {_is(found.others)} not of test images and "
            f"{_does_not_count(found.others)}"
        )
    if found.absent_classes:
        notes.append(
            f"no untouched test image is of {listed(found.absent_classes)}: without the touched images the means over "
            f"classes are those of fewer classes"
        )
    if run is not None and run.tags.get("split_hash") not in (None, digest):
        notes.append(
            f"run {run.run_id[:8]} was trained on another split than the audited one, so that the images called "
            f"touched need not be those whose lesions the run has seen"
        )
    return notes


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _does_not_count(count: int) -> str:
    return "does not count" if count == 1 else "do not count"
