"""Stores predictions that somebody else made as a run, and evaluates them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp import taxonomy
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError, DataError, did_you_mean, first_cases
from lesion_exp.evaluation.class_mapping import (
    GIVEN_LABEL,
    classes_of_labels,
    map_classes,
    map_predicted_labels,
    predicted_mapping_in_words,
)
from lesion_exp.evaluation.evaluation_result import EvaluationResult, evaluate_table
from lesion_exp.evaluation.posthoc import PosthocModels, fit_on_validation
from lesion_exp.evaluation.predictions import (
    LABELS_ONLY,
    RESCALED,
    IntArray,
    has_labels_only,
    is_unknown,
    predictions_table,
)
from lesion_exp.evaluation.registry import only_metrics
from lesion_exp.image_ids import ImageIds, image_key
from lesion_exp.progress import Stage
from lesion_exp.split import PARTS
from lesion_exp.text_table import as_numbers
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_description import score_tags
from lesion_exp.tracking.stored_run import IMPORTED, Run
from lesion_exp.training.part_evaluation import (
    evaluation_options,
    log_evaluation,
    log_posthoc_models,
    part_results,
)
from lesion_exp.verbs.evaluate.given_predictions import GivenPredictions, read_predictions_file
from lesion_exp.verbs.evaluate.import_request import ImportRequest
from lesion_exp.verbs.evaluate.imported_classes import imported_classes
from lesion_exp.verbs.evaluate.run_evaluation import RunEvaluation
from lesion_exp.verbs.evaluate.true_classes import TrueClasses, of_dataset, of_file, of_run

log = logging.getLogger(__name__)

ObjectArray = npt.NDArray[np.object_]

_OF_DATA: Final = ("dataset", "split_hash", "dataset_fingerprint")
"""Tags about the images, which a run has that predicts the images of another."""
LIKE_TAG: Final = "like"
"""Tag of an imported run with the id of the run whose images it predicts."""


@dataclass
class _Matched:
    """The rows with a prediction, and the row of the file for each."""

    rows: pd.DataFrame
    places: IntArray
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> number of images or predictions that are left out."""


def import_predictions(
    request: ImportRequest,
    config: Mapping[str, Any],
    project: Project,
    like: Run | None,
    *,
    needs_calibration: bool = False,
) -> RunEvaluation:
    """Imports the predictions of `request` as a new run, evaluates them, and returns the evaluation of the test part.

    Args:
        request: the file.
        config: the resolved config: data set, evaluation, and experiment of the run.
        project: the project of this machine.
        like: the run whose images are taken, or None.
        needs_calibration: whether it is an error if the calibration of `config` cannot be fitted.

    Raises:
        ConfigError: the options contradict each other.
        DataError: predictions and true classes do not fit, or the file has a fault.
    """
    with Stage("reading predictions and true classes"):
        truth = of_run(like) if like else of_file(request.truth) if request.truth else of_dataset(config)
        known = sorted({*truth.table["label"].astype(str), *truth.classes})
        given = read_predictions_file(request, known)
        matched = _match(given, truth, request)
        if given.labels:
            classes, of_rows, mapped = _of_labels(given, truth, known, request)
            probs = of_rows[matched.places]
        else:
            classes, probs, mapped = imported_classes(given, truth, matched.places, request)
        rows = _known_to(classes, map_classes(matched.rows, classes, truth.source))
        rows = rows.assign(**{LABELS_ONLY: True}) if given.labels else rows
        rows = rows.assign(**{RESCALED: True}) if given.is_rescaled else rows
        table = predictions_table(rows.drop(columns="split"), probs, classes)
    tables = {part: _part_of(table, rows, part) for part in ("val", "test") if (rows["split"] == part).any()}
    if "test" not in tables:
        raise DataError(
            f"expected predictions of test images of {truth.source}, but {request.predictions.name} has only those of "
            f"validation images; import the predictions of the test part, too"
        )
    node = config["evaluation"]
    posthoc = _fitted(tables, node, needs_calibration=needs_calibration)
    with Stage("evaluating the predictions"):
        results = {
            part: evaluate_table(part_table, posthoc if part == "test" else None, evaluation_options(node))
            for part, part_table in tables.items()
        }
    name = request.name or request.predictions.stem
    notes = (*given.notes, *mapped)
    facts = {**_facts(request, given, truth, classes, matched, rows), "notes": list(notes)}
    tags = {
        "kind": IMPORTED,
        "dataset": truth.source,
        **_tags_of(like),
        "mlflow.note.content": _description(request, truth, matched, notes, results["test"]),
    }
    params = {"evaluation": {**node, "tta": "none"}, "import": {"values": facts["values"], "truth": truth.source}}
    experiment = str(config["tracking"]["experiment"])
    if like is not None:
        experiment = like.store.client.get_experiment(like.experiment_id).name
    with TrackedRun.start(project.store, experiment, name, tags, params, system_metrics_seconds=0) as run:
        values = _log(run, results, posthoc, facts)
        run.log_metrics(values, step=0)
        run.set_tags(score_tags(values, leaky=False))
    for note in notes:
        log.warning("warning: %s", note)
    for reason, number in matched.left_out.items():
        log.warning("left out: %s %s", f"{number:,}", reason)
    options = {**node, "tta": "none"}
    title = f"{PARTS['test']} part, {len(results['test'].table):,} images"
    return RunEvaluation(run.run_id, name, "test", title, (), options, False, results["test"], posthoc, notes=notes)


def _tags_of(like: Run | None) -> dict[str, str]:
    """The tags about the images that a run shares with the run `like`, whose images it predicts."""
    if like is None:
        return {}
    return {LIKE_TAG: like.run_id} | {tag: like.tags[tag] for tag in _OF_DATA if tag in like.tags}


def _known_to(classes: Sequence[str], rows: pd.DataFrame) -> pd.DataFrame:
    """`rows`, in which no class of the predictions is unknown, whatever the run of `like=` knew."""
    if taxonomy.IS_UNKNOWN not in rows:
        return rows
    return rows.assign(**{taxonomy.IS_UNKNOWN: is_unknown(rows) & ~rows["label"].isin(list(classes))})


def _part_of(table: pd.DataFrame, rows: pd.DataFrame, part: str) -> pd.DataFrame:
    found = table[(rows["split"] == part).to_numpy()].reset_index(drop=True)
    if taxonomy.IS_UNKNOWN in found and not found[taxonomy.IS_UNKNOWN].any():
        found = found.drop(columns=taxonomy.IS_UNKNOWN)
    return found


def _match(given: GivenPredictions, truth: TrueClasses, request: ImportRequest) -> _Matched:
    """The images of `truth` with the place of each one's prediction.

    Raises:
        DataError: see `import_predictions`.
    """
    table = truth.table
    if given.of_lesions:
        table = _one_a_lesion(table, truth.source)
    key = "lesion_id" if given.of_lesions and "lesion_id" in table and table["lesion_id"].notna().any() else "image_id"
    places = _places(table, key, given.ids)
    if given.parts:
        of_file = np.array([*given.parts, ""], dtype=object)[places]  # the last for images without a prediction
        if truth.classes:
            _refuse_other_parts(table, of_file, truth, request)
        table = table.assign(split=np.where(places >= 0, of_file, table["split"]))
    left_out: dict[str, int] = {}
    extra = sorted(set(range(len(given.ids))) - set(places.tolist()))
    unscored = {image_key(name) for name in truth.unscored}
    strangers = [given.ids[place] for place in extra if image_key(given.ids[place]) not in unscored]
    if len(strangers) < len(extra):
        left_out["predictions of images to which the challenge gives weight zero"] = len(extra) - len(strangers)
    has = places >= 0
    in_a_part = table["split"].isin(["val", "test"]).to_numpy()
    is_evaluated = in_a_part
    for part in ("val", "test"):
        of_part = (table["split"] == part).to_numpy()
        if of_part.any() and truth.own_parts and not (of_part & has).any():
            left_out[f"images of the {PARTS[part]} part, of which the file has no prediction"] = int(of_part.sum())
            is_evaluated = is_evaluated & ~of_part  # a new array: that of the table is read-only
    missing = table.loc[is_evaluated & ~has, "image_id"].tolist()
    if not (is_evaluated & has).any():
        raise DataError(
            f"expected predictions of images of {truth.source}, but none of the {len(given.ids):,} ids of "
            f"{request.predictions.name} is among its {int(in_a_part.sum()):,} images: the file has "
            f"{', '.join(map(repr, given.ids[:3]))}, {truth.source} has "
            f"{', '.join(map(repr, table.loc[in_a_part, key].head(3)))}; name the column of the ids "
            f"with columns='{{image_id: COLUMN}}', or the right data set"
        )
    _refuse_unmatched(missing, [] if truth.own_parts else strangers, truth, request)
    if missing:
        left_out["images without a prediction"] = len(missing)
    if strangers:
        left_out["predictions of images that are not evaluated"] = len(strangers)
    trained = int((has & ~table["split"].isin(["val", "test"])).sum())
    if trained:
        left_out["predictions of training images"] = trained
    kept = is_evaluated & has
    return _Matched(table[kept].reset_index(drop=True), places[kept], left_out)


def _refuse_other_parts(table: pd.DataFrame, of_file: ObjectArray, truth: TrueClasses, request: ImportRequest) -> None:
    """Refuses a column `split` that has other parts than the run whose images are predicted.

    Two runs of one split are compared and combined as if the same images were held out from both.
    """
    other = (of_file != "") & (of_file != table["split"].to_numpy(dtype=object))
    if other.any():
        cases = [
            f"{name}: {part} in the file, {own} in the run"
            for name, part, own in zip(
                table.loc[other, "image_id"], of_file[other], table.loc[other, "split"], strict=True
            )
        ]
        raise DataError(
            f"expected the parts of {truth.source} in the column split of {request.predictions.name}, but those of "
            f"{len(cases):,} images differ:\n{first_cases(cases)}\nremove or rename the column, which like= does not "
            f"need"
        )


def _refuse_unmatched(
    missing: Sequence[str], strangers: Sequence[str], truth: TrueClasses, request: ImportRequest
) -> None:
    if request.on_unmatched == "skip":
        return
    file = request.predictions.name
    if missing:
        choose = "; dataset.filter chooses the images that are evaluated" if truth.of_data_set else ""
        raise DataError(
            f"expected a prediction of each image of {truth.source} in {file}, but {len(missing):,} images have "
            f"none:\n{first_cases(missing)}\non_unmatched=skip leaves these images out and counts them{choose}"
        )
    if strangers:
        raise DataError(
            f"expected predictions of images of {truth.source} in {file}, but {len(strangers):,} ids are unknown "
            f"there:\n{first_cases(strangers)}\ncorrect the ids, or leave these predictions out with "
            f"on_unmatched=skip, which counts them"
        )


def _one_a_lesion(table: pd.DataFrame, source: str) -> pd.DataFrame:
    doubled = table.loc[table["lesion_id"].notna() & table["lesion_id"].duplicated(), "lesion_id"]
    if len(doubled):
        raise DataError(
            f"expected one image of each lesion of {source} for predictions of lesions, but {doubled.nunique():,} "
            f"lesions have several:\n{first_cases(doubled.unique())}\nimport a file with a row for each image, or "
            f"choose one image of each lesion with dataset.filter"
        )
    return table


def _places(table: pd.DataFrame, key: str, ids: Sequence[str]) -> IntArray:
    """For the name in the column `key` of each row the place of its id among `ids`, -1 where there is none.

    An id may be a path to the image, and a name one to the file of the id, see `ImageIds`.

    Raises:
        DataError: an id fits several names, or several ids fit a name.
    """
    known = ImageIds(table[key], paths=True, sources=table.get("source"))
    rows = known.rows(ids)
    given = pd.Series(rows[rows >= 0])
    shared = table[key].iloc[given[given.duplicated()].unique()].astype(str).tolist()
    unclear = known.unclear(ids)
    if unclear or shared:
        raise DataError(
            f"expected one prediction for each image, but {len(unclear) + len(shared):,} names fit several:\n"
            f"{first_cases([*unclear, *shared])}\nname images and ids alike, for example by the whole path"
        )
    places = np.full(len(table), -1, dtype=np.int64)
    places[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    return places


def _of_labels(
    given: GivenPredictions, truth: TrueClasses, known: Sequence[str], request: ImportRequest
) -> tuple[tuple[str, ...], np.ndarray, list[str]]:
    """The classes, float (N, C), 1 for the predicted class of each row of the file and 0 for the others, and a note on
    which predicted labels count as a true class, if any does."""
    found = map_predicted_labels(given.labels, known)
    strange = [label for label, name in found.items() if name is None]
    if strange:
        remedy = _remedy_for(strange, given.columns["prediction"])
        raise DataError(
            f"expected predicted classes that the data set or the taxonomy has ({', '.join(known)}) in "
            f"{request.predictions.name}, got {', '.join(map(repr, strange[:5]))}{did_you_mean(strange[0], known)}; "
            f"{remedy}"
        )
    predicted = {str(name) for name in found.values()}
    labels = () if truth.classes else known
    classes = tuple(sorted({*truth.classes, *classes_of_labels(predicted, labels, known)}))
    if len(classes) < 2:
        raise DataError(
            f"expected at least two classes, but all predictions of {request.predictions.name} and all true classes "
            f"are {classes[0]}; use a data set with several classes"
        )
    of_rows = [classes.index(str(found[label])) for label in given.labels]
    words = predicted_mapping_in_words(given.labels, found, known)
    return classes, np.eye(len(classes))[of_rows], [words] if words else []


def _remedy_for(strange: Sequence[str], column: str) -> str:
    """What to do with predicted classes that nothing knows: numbers in the `column` may be scores."""
    numbers = as_numbers(pd.Series(strange))
    if numbers.between(0, 1).all():
        return (
            f"columns='{{malignant: {column}}}' reads {column} as the probability that an image is malignant; for "
            f"numbers of classes, write their names"
        )
    if (numbers % 1 != 0).any() and numbers.notna().all():
        return f"values=logits columns='{{malignant: {column}}}' reads {column} as the logit of malignant"
    return "write the names of the classes"


def _fitted(
    tables: Mapping[str, pd.DataFrame], node: Mapping[str, Any], *, needs_calibration: bool
) -> PosthocModels | None:
    """The models that are fitted on validation; None without predictions of it, or without probabilities.

    Raises:
        ConfigError: a calibration is needed nevertheless.
    """
    if "val" in tables and not has_labels_only(tables["val"]):
        return fit_on_validation(tables["val"], node["conformal_alpha"])
    if needs_calibration and node["calibration"] != "none":
        raise ConfigError(
            f"expected calibration=none for predictions without probabilities of a validation part, got "
            f"{node['calibration']}; leave it out, or name the validation images in a column split of the file"
        )
    return None


def _facts(
    request: ImportRequest,
    given: GivenPredictions,
    truth: TrueClasses,
    classes: Sequence[str],
    matched: _Matched,
    rows: pd.DataFrame,
) -> dict[str, Any]:
    return {
        "file": request.predictions.name,
        "sha256": hashlib.sha256(request.predictions.expanduser().read_bytes()).hexdigest(),
        "rows": len(given.ids),
        "format": given.challenge,
        "values": "labels" if given.labels else request.values,
        "rescaled": request.rescale,
        "columns": dict(given.columns),
        "classes": list(classes),
        "truth": truth.source,
        "images": {str(part): int(number) for part, number in rows["split"].value_counts().items()},
        "left_out": dict(matched.left_out),
        "labels_were_mapped": GIVEN_LABEL in rows,
        "trained_on": "unknown: whether the predictions come from a model that has seen these images cannot be checked",
    }


def _description(
    request: ImportRequest, truth: TrueClasses, matched: _Matched, notes: Sequence[str], result: EvaluationResult
) -> str:
    lines = [
        f"Predictions imported from {request.predictions.name}, evaluated on {len(result.table):,} images of "
        f"{truth.source}. What they were trained on is not known.",
        *(f"Left out: {number:,} {reason}." for reason, number in matched.left_out.items()),
        *(f"{note[:1].upper()}{note[1:]}." for note in notes),
        *([f"{result.note[:1].upper()}{result.note[1:]}."] if result.note else []),
    ]
    return "\n\n".join(lines)


def _log(
    run: TrackedRun, results: Mapping[str, EvaluationResult], posthoc: PosthocModels | None, facts: Mapping[str, Any]
) -> dict[str, float]:
    """Logs everything by which the run can be used like one that was trained here, and returns its metrics."""
    run.log_json(dict(facts), artifacts.IMPORTED)
    if posthoc is not None:
        log_posthoc_models(run, posthoc)
    metrics: dict[str, float] = {}
    for part, result in results.items():
        log_evaluation(run, part, result)  # type: ignore[arg-type]
        found = part_results(part, result)
        metrics |= {f"best/{name}": value for name, value in found.items()} if part == "val" else (
            found | result.section_results())  # fmt: skip
    return only_metrics(metrics)
