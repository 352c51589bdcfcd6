"""Predicts images with a run's network, into a file."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from lesion_exp.config.project import Project
from lesion_exp.data.lock import hold, release
from lesion_exp.dataset.table import UNKNOWN
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.calibrator import Calibrator
from lesion_exp.evaluation.challenge_format import FORMATS
from lesion_exp.model.checkpoint_file import weights_hash
from lesion_exp.model.precision import precision_here, resolve_devices
from lesion_exp.model.predictor import Predictor
from lesion_exp.model.restore import Restored, restore
from lesion_exp.process.distributed_environment import run_module
from lesion_exp.process.signals import preserve_stop_signals
from lesion_exp.text_table import write_csv
from lesion_exp.tracking.stored_run import Run
from lesion_exp.trained_runs.statements import calibration_warning
from lesion_exp.trained_runs.trained_run import own_tta, trained_run
from lesion_exp.training.trainer import check_devices
from lesion_exp.verbs.predict.active_learning import images_to_label
from lesion_exp.verbs.predict.images import contents_digest, images_of
from lesion_exp.verbs.predict.loop import predict_plan
from lesion_exp.verbs.predict.plan import DONE_FILE, PLAN_FILE, PredictionPlan
from lesion_exp.verbs.predict.pseudo_labels import check_file, thresholds_of, write_pseudo_labels
from lesion_exp.verbs.predict.request import PredictionRequest
from lesion_exp.verbs.predict.results import Results
from lesion_exp.verbs.predict.submission import submission_ids, write_submission

log = logging.getLogger(__name__)

UNCALIBRATED: Final = (
    "the threshold of the pseudo-labels is applied to uncalibrated probabilities, which are often too high: "
    "calibration=temperature calibrates them, target_precision=0.95 finds thresholds on validation"
)


def folder_of(output: Path) -> Path:
    """The folder of the batches of `output` until it is complete."""
    return output.with_name(f"{output.name}.part")


def facts_path(output: Path) -> Path:
    """The file that says how the probabilities in `output` were made, see `PredictionPlan.facts`."""
    return output.with_name(f"{output.stem}_facts.json")


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
    _check_has_network(run)
    opened = trained_run(run, project)
    if request.calibration != "none" and request.tta not in (None, own_tta(run)):
        log.warning(
            "calibration=%s was fitted on predictions with tta=%s, and is applied to predictions with tta=%s",
            request.calibration, own_tta(run), request.tta,
        )  # fmt: skip
    config, checkpoint = opened.weights(request.checkpoint, request.tta, request.trainer)
    check_devices({**config["trainer"], **request.trainer})
    restored = restore(config, checkpoint)
    calibrator = opened.calibrator(request.calibration)
    check_file(request)
    pseudo = request.pseudo_labels
    thresholds = None if pseudo is None else thresholds_of(request, opened, calibrator, restored.classes)
    needed = Predictor(restored, calibrator, top=request.top or 0).needed_columns
    images = images_of(request.source, needed, request.columns)
    ids: list[str] = []
    if request.challenge is not None:
        FORMATS[request.challenge].places(restored.classes)  # raises before anything is predicted
        ids = submission_ids(images, request)
    _log_unknown_values(restored, images)
    warnings = [text for text in (calibration_warning(run, request.calibration),) if text is not None]
    if pseudo is not None and calibrator is None and request.target_precision is None:
        warnings.append(UNCALIBRATED)
    plan = _plan(run, request, restored.config, checkpoint, calibrator, images)
    output = Path(plan.output)
    lock = output.with_name(f".{output.name}.lock")
    if not hold(lock):
        raise ConfigError(
            f"expected no other process to write {plan.output}, but one is predicting into it; wait for it, or name "
            f"another output="
        )
    try:
        results, resumed = _begin(plan, images, force=request.force)
        if results.are_whole:
            table, labels = results.read(), None if plan.rank is None else str(_to_label_file(plan))
        else:
            _fill(results)
            table = results.join()
            labels = _write_images_to_label(table, results, request.count)
        counts_of_pseudo = None
        if pseudo is not None and thresholds is not None:
            counts_of_pseudo = write_pseudo_labels(pseudo, table, images, plan.facts, request, thresholds)
        submission = None if request.challenge is None else write_submission(table, ids, restored.classes, request)
        facts = facts_path(output)
        told = {**plan.facts, "images": len(table), "errors": int(table["error"].notna().sum())}
        if pseudo is not None:
            told["pseudo_labels"] = {
                "file": pseudo.name,
                "counts": counts_of_pseudo,
                "thresholds": thresholds,
                "target_precision": request.target_precision,
            }
        _write_json(facts, {**told, "warnings": warnings})
        results.finish()
    except BaseException as error:
        error.add_note(f"the same command continues {plan.output} where it was stopped")
        raise
    finally:
        release(lock)
    counts = {str(name): int(count) for name, count in table["prediction"].value_counts().items()}
    return PredictionSummary(
        run.run_id,
        request.output.as_posix(),
        len(table),
        int(table["error"].notna().sum()),
        {name: counts.get(name, 0) for name in restored.classes},
        request.calibration,
        config["evaluation"]["tta"],
        resumed,
        round(time.monotonic() - began, 2),
        str(facts),
        plan.config["trainer"]["precision"],
        tuple(warnings),
        labels,
        _first_error(table),
        None if pseudo is None else str(pseudo),
        counts_of_pseudo,
        thresholds,
        None if submission is None else str(submission),
    )


def _check_has_network(run: Run) -> None:
    """Checks that `run` is no ensemble of predictions, whose networks are those of other runs.

    Raises:
        ConfigError: it is one.
    """
    members = [member[:8] for member in run.members]
    if run.tags.get("kind") != "ensemble" or not members:
        return
    method = run.tags.get("ensemble", "mean")
    together = "mean" if method == "pooled" else method
    raise ConfigError(
        f"expected a run with a network, got {run.run_id} ({run.name}), which combines the predictions of others "
        f"({method}) and predicts no new images by itself; predict with one of its runs, such as run={members[0]}, or "
        f"evaluate all of them on a labelled data set: lesion-exp evaluate 'run=[{','.join(members)}]' "
        f"ensemble={together} dataset=NAME dataset.root=DIR"
    )


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _first_error(table: pd.DataFrame) -> str | None:
    failed = table[table["error"].notna()]
    return None if failed.empty else f"{failed['image'].iloc[0]}: {failed['error'].iloc[0]}"


def _plan(
    run: Run,
    request: PredictionRequest,
    config: Mapping[str, Any],
    checkpoint: Path,
    calibrator: Calibrator | None,
    images: pd.DataFrame,
) -> PredictionPlan:
    loader = config["loader"]
    trainer = config["trainer"]
    precision = precision_here(trainer["precision"], trainer["accelerator"])
    config = {**config, "trainer": {**trainer, "precision": precision}}
    at_once = request.batch_size or loader["evaluation_batch_size"] or 2 * loader["batch_size"]
    devices = resolve_devices(request.trainer.get("devices", 1), config["trainer"]["accelerator"])
    num_batches = -(-len(images) // at_once)
    limit = devices[:num_batches] if isinstance(devices, list) else min(devices, num_batches)
    return PredictionPlan(
        run_id=run.run_id,
        checkpoint=str(checkpoint),
        weights_hash=weights_hash(checkpoint),
        config=config,
        calibrator=None if calibrator is None else calibrator.to_dict(),
        source=request.source,
        digest=contents_digest(images),
        output=str(request.output.expanduser().absolute()),
        top=request.top or 0,
        rank=request.rank,
        batch_size=int(at_once),
        num_workers=request.num_workers,
        devices=limit,
        heat_maps=None if request.heat_maps is None else str(request.heat_maps.expanduser().absolute()),
    )


def _begin(plan: PredictionPlan, images: pd.DataFrame, *, force: bool) -> tuple[Results, int]:
    """The results so far, and their number of images."""
    output = Path(plan.output)
    folder = folder_of(output)
    results = Results(folder, plan, len(images))
    begun = (folder / PLAN_FILE).is_file()
    if results.are_whole:
        if not force and output.exists() and not plan.differences(PredictionPlan.read(folder, DONE_FILE)):
            log.info("%s is complete: the command that wrote it was stopped right afterwards", output)
            return results, len(images)
        results.finish()
    if not begun:
        results.clear()  # a folder without a plan cannot be continued
    if begun and not force:
        plan.check_same(PredictionPlan.read(folder))
    elif not force and output.exists() and output.stat().st_size:
        raise ConfigError(
            f"expected a new file as output, but {output} exists; name another one, or use force=true to replace it"
        )
    else:
        results.clear()
    plan.write(folder, images)
    if plan.heat_maps is not None:
        Path(plan.heat_maps).mkdir(parents=True, exist_ok=True)
    done = len(images) - results.num_images(results.missing())
    if done:
        log.info("continuing: %s of %s images are predicted already", f"{done:,}", f"{len(images):,}")
    return results, done


def _fill(results: Results) -> None:
    """Predicts the missing batches, in this process or, on several devices, in one process for each."""
    if not results.missing():
        return
    devices = results.plan.devices
    if (len(devices) if isinstance(devices, list) else devices) == 1:
        with preserve_stop_signals():
            predict_plan(results.folder)
        return
    code = run_module("lesion_exp.verbs.predict.process", str(results.folder))
    if code or results.missing():
        raise RuntimeError(f"a process of the prediction ended with exit code {code}; see its messages above")


def _write_images_to_label(table: pd.DataFrame, results: Results, count: int) -> str | None:
    """Writes the images to label next, if they are asked for, and returns their file."""
    plan = results.plan
    if plan.rank is None:
        return None
    chosen = images_to_label(table, plan.rank, count, results.features() if plan.with_features else None)
    path = _to_label_file(plan)
    write_csv(chosen, path)
    return str(path)


def _to_label_file(plan: PredictionPlan) -> Path:
    output = Path(plan.output)
    return output.with_name(f"{output.stem}_to_label.csv")


def _log_unknown_values(restored: Restored, images: pd.DataFrame) -> None:
    """Warns about values of metadata with which the network was not trained."""
    if restored.encoder is None:
        return
    for column, known in (("sex", restored.encoder.sexes), ("site", restored.encoder.sites)):
        strange = sorted(set(images[column]) - {*known, UNKNOWN})
        if strange:
            log.warning(
                "%s of %s is not a value of the training part and counts as missing; the known values are %s",
                column, ", ".join(map(repr, strange[:5])), ", ".join(known),
            )  # fmt: skip
