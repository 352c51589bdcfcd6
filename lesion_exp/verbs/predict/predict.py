"""Predicts images with a run's network, or with a stacked ensemble of several, into a file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from lesion_exp.config.project import Project
from lesion_exp.data.lock import hold, release
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.challenge_format import FORMATS
from lesion_exp.tracking.stored_run import Run
from lesion_exp.trained_runs.statements import calibration_warnings
from lesion_exp.trained_runs.trained_run import own_tta, trained_run
from lesion_exp.verbs.predict.further_files import check_further_files
from lesion_exp.verbs.predict.network import open_network
from lesion_exp.verbs.predict.output_files import facts_path, same_stem
from lesion_exp.verbs.predict.predicting_run import check_predicts, is_stacked
from lesion_exp.verbs.predict.pseudo_labels import thresholds_of, write_pseudo_labels
from lesion_exp.verbs.predict.request import PredictionRequest
from lesion_exp.verbs.predict.stacked import open_stack
from lesion_exp.verbs.predict.submission import submission_ids, write_submission

UNCALIBRATED: Final = (
    "the threshold of the pseudo-labels is applied to uncalibrated probabilities, which are often too high: "
    "calibration=temperature calibrates them, target_precision=0.95 finds thresholds on validation"
)


@dataclass(frozen=True)
class PredictionSummary:
    """The counts of a prediction, and how it was made."""

    run_id: str
    output: str
    images: int
    errors: int
    """Images without a prediction."""
    predictions: Mapping[str, int]
    """Number of images by predicted class."""
    calibration: str
    tta: str
    resumed: int
    """Images that were predicted before, by a command that was stopped."""
    seconds: float
    facts: str
    """The file that says how the probabilities were made."""
    precision: str
    """Precision of the network; its head always computes in float32."""
    warnings: tuple[str, ...] = ()
    """Warnings about the probabilities."""
    to_label: str | None = None
    """The file with the images to label next."""
    first_error: str | None = None
    """The first image without a prediction, and why."""
    pseudo_labels: str | None = None
    """The file with the pseudo-labels."""
    pseudo_counts: Mapping[str, int] | None = None
    """Number of pseudo-labels by class."""
    thresholds: Mapping[str, float | None] | None = None
    """Smallest probability of the pseudo-labels by class; None for a class that gets none."""
    submission: str | None = None
    """The file with the submission to a challenge."""
    features: str | None = None
    """The file with features and logits."""
    thresholds_of_prediction: Mapping[str, float] | None = None
    """Smallest probability from which on a class is predicted, for the classes that have one."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def predict(run: Run, request: PredictionRequest, project: Project) -> PredictionSummary:
    """Predicts all images of `request` into its output, or continues where the same request was stopped.

    Raises:
        ConfigError: the run has no network, options contradict each other, or the output exists already.
        DataError: there are no images, or columns that the network needs are missing.
    """
    began = time.monotonic()
    check_predicts(run, request.checkpoint, project)
    check_further_files(request)
    opened = trained_run(run, project)
    made = open_stack(opened, request, project) if is_stacked(run) else open_network(opened, request)
    pseudo = request.pseudo_labels
    thresholds = None if pseudo is None else thresholds_of(request, opened, made.calibrator, made.classes)
    ids: list[str] = []
    if request.challenge is not None:
        FORMATS[request.challenge].places(made.classes)  # raises before anything is predicted
        ids = submission_ids(made.images, request)
    warnings = [*calibration_warnings(run, request.calibration, request.tta or own_tta(run)), *made.warnings]
    if pseudo is not None and made.calibrator is None and request.target_precision is None:
        warnings.append(UNCALIBRATED)
    output = made.output
    if (other := same_stem(request)) is not None and facts_path(output).exists():
        warnings.append(
            f"{facts_path(output).name} now says how {output.name} was made, and no longer how {other.name} was; give "
            f"the outputs different names to keep the facts of both"
        )
    lock = output.with_name(f".{output.name}.lock")
    if not hold(lock):
        raise ConfigError(
            f"expected no other process to write {output}, but one is predicting into it; wait for it, or name "
            f"another output="
        )
    try:
        table, labels, resumed = made.predicted(request)
        counts_of_pseudo = None
        if pseudo is not None and thresholds is not None:
            counts_of_pseudo = write_pseudo_labels(pseudo, table, made.images, made.facts, thresholds)
        submission = None if request.challenge is None else write_submission(table, ids, made.classes, request)
        facts = facts_path(output)
        told = {**made.facts, "images": len(table), "errors": int(table["error"].notna().sum())}
        if pseudo is not None:
            told["pseudo_labels"] = {
                "file": pseudo.name,
                "counts": counts_of_pseudo,
                "thresholds": thresholds,
                "target_precision": request.target_precision,
            }
        _write_json(facts, {**told, "warnings": warnings})
        made.finish()
    except BaseException as error:
        error.add_note(f"the same command continues {output} where it was stopped")
        raise
    finally:
        release(lock)
    counts = {str(name): int(count) for name, count in table["prediction"].value_counts().items()}
    return PredictionSummary(
        run.run_id,
        request.output.as_posix(),
        len(table),
        int(table["error"].notna().sum()),
        {name: counts.get(name, 0) for name in made.classes},
        request.calibration,
        made.facts["tta"],
        resumed,
        round(time.monotonic() - began, 2),
        str(facts),
        made.facts["precision"],
        tuple(warnings),
        labels,
        _first_error(table),
        None if pseudo is None else str(pseudo),
        counts_of_pseudo,
        thresholds,
        None if submission is None else str(submission),
        None if request.features is None else str(request.features),
        made.facts["thresholds"] or None,
    )


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _first_error(table: pd.DataFrame) -> str | None:
    failed = table[table["error"].notna()]
    return None if failed.empty else f"{failed['image'].iloc[0]}: {failed['error'].iloc[0]}"
