"""The runs to evaluate: finding them, their predictions on other data, and warnings if their data have changed."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pandas as pd

from lesion_exp.config.freeze import NOT_HASHED, Job, check_place_keys, job_hash, place_keys, with_new_places
from lesion_exp.config.places import check_new_places
from lesion_exp.config.project import Project
from lesion_exp.dataset.display_name import display_name
from lesion_exp.dataset.id_origin import has_ids_of_a_folder, with_id_origin
from lesion_exp.errors import ConfigError, LeakageError, UserError, first_cases
from lesion_exp.evaluation.class_mapping import map_classes
from lesion_exp.next_command import next_command
from lesion_exp.split.seen_before import CHOSEN, IMAGES, LABELS, PROBED, find_seen, seen_again
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import runs_where
from lesion_exp.tracking.stored_run import Run, check_classifies, read_stored_table
from lesion_exp.trained_runs.trained_run import TrainedRun, trained_run
from lesion_exp.training.data import load_data, present_fingerprint
from lesion_exp.training.photographs import as_in_training, view_elsewhere
from lesion_exp.training.seen_before import TRANSDUCTIVE, rows_of, warn_of_same_ids
from lesion_exp.training.tracked import job_of
from lesion_exp.verbs.evaluate.request import SHARED_KEYS, EvaluationRequest

log = logging.getLogger(__name__)

_COUNTS: Final = ("split.num_folds", "split.seed", "seed")
_SEARCHED: Final = (
    "split._target_", "dataset._target_", "backbone._target_", "loss._target_", "sampler._target_",
    "optimizer._target_", "optimizer.lr", *_COUNTS,
)  # fmt: skip
"""Keys by which the store is searched; few, since it joins a table for each of them."""
_MAY_DIFFER: Final = (*NOT_HASHED, "split.fold", "loss.teacher", "backbone.licence")
"""Keys that may differ between folds of one cross-validation."""
_SPELLED_IN_WAYS: Final = frozenset("/\\~'[{*")
"""Signs of values that stores may contain in several ways, such as paths, which are relative to a home folder."""
_OF_OTHER_PATIENTS: Final = (
    "; if equal ids mean other patients here, as where two clinics number theirs from 1, put each table with its "
    "images into a folder of its own, or make the ids differ"
)
"""The remedy where ids of the user's own data are all that was seen."""
_LONGEST_COMPARED: Final = 250
"""Characters of a value; longer ones may be replaced by a reference (see `flat_params`)."""


def evaluated_runs(runs: Sequence[Run], request: EvaluationRequest, project: Project) -> list[TrainedRun]:
    """Returns the trained runs with the evaluation options that `request` asks for.

    Raises:
        ConfigError: a run is named twice, or has trained no classifier, or data are said to have moved that none reads.
        DataError: data are not where `request` says.
    """
    for position, run in enumerate(runs):
        check_classifies(run, "an evaluation")
        if run.run_id in {other.run_id for other in runs[:position]}:
            raise ConfigError(f"expected different runs, got {run.run_id} ({run.name}) twice; name each once")
    found = _moved([trained_run(run, project) for run in runs], request.places)
    return [replace(trained, evaluation=request.options_of(trained.evaluation)) for trained in found]


def _moved(opened: Sequence[TrainedRun], places: Mapping[str, Path]) -> list[TrainedRun]:
    """Returns the runs `opened`, each with those of `places` whose keys its job has.

    Raises:
        ConfigError: no job has one of the keys.
        DataError: nothing is at one of `places`.
    """
    jobs = [trained.job for trained in opened if trained.job is not None]
    known = list(dict.fromkeys(key for job in jobs for key in place_keys(job)))
    check_place_keys(places, known, "this job" if len(opened) == 1 else "one of these jobs")
    found: list[TrainedRun] = []
    for trained in opened:
        job = trained.job
        if job is not None:
            job = with_new_places(job, {key: places[key] for key in place_keys(job) if key in places})
            check_new_places(job.config, places)
        found.append(replace(trained, job=job))
    return found


def fold_runs(run: Run) -> list[Run]:
    """Returns the newest finished run of each fold of the cross-validation of `run`.

    Raises:
        ConfigError: `run` belongs to no cross-validation, or a fold has no finished run.
    """
    own = job_of(run)
    config = own.config
    if "fold" not in config["split"] or "num_folds" not in config["split"]:
        raise ConfigError(
            f"expected a run of a cross-validation for folds:RUN, got {run.run_id} ({run.name}), whose split has no "
            f"folds; train one with split=kfold split.fold=0"
        )
    found: dict[int, Run] = {}
    wanted = hash_without_fold(config, own.files)
    for other in _with_same_params(run, own):
        if other.fetch(artifacts.JOB) is None:
            continue
        job = job_of(other)
        if hash_without_fold(job.config, job.files) == wanted:
            found.setdefault(int(job.config["split"]["fold"]), other)
        if len(found) == config["split"]["num_folds"]:
            break
    missing = sorted(set(range(config["split"]["num_folds"])) - set(found))
    if missing:
        raise ConfigError(
            f"expected a finished run of each of the {config['split']['num_folds']} folds, but there is none of fold "
            f"{', '.join(map(str, missing))}; train the same job with split.fold={missing[0]}, or name the runs if "
            f"their jobs read different files: run=[A,B]"
        )
    return [found[fold] for fold in sorted(found)]


def _with_same_params(run: Run, job: Job) -> Iterator[Run]:
    """Yields the finished runs that may be folds of the cross-validation of `run`, the newest first.

    They have the parameters of `run` in MLflow, so that only jobs of folds are read in a store with many runs.
    """
    texts = {"split._target_": job.config["split"]["_target_"]}
    texts |= {name: text for name, text in run.params.items() if _is_compared(name, text, job)}
    conditions = [
        f"params.`{name}` = '{texts[name]}'" for name in _SEARCHED if _has_one_spelling(name, texts.get(name))
    ]
    for other in runs_where(run.store, " AND ".join(["attributes.status = 'FINISHED'", *conditions])):
        if all(_is_same(text, other.params.get(name, text)) for name, text in texts.items()):
            yield other


def _is_compared(name: str, text: str, job: Job) -> bool:
    """Returns whether a run with another value of the parameter `name` than `text` has another job hash than `job`."""
    node: Any = job.config
    *parents, leaf = name.split(".")
    for parent in parents:
        node = node.get(parent) if isinstance(node, Mapping) else None
    is_key = isinstance(node, Mapping) and leaf in node and not isinstance(node[leaf], Mapping)
    may_differ = name in job.files or any(name == key or name.startswith(f"{key}.") for key in _MAY_DIFFER)
    return is_key and not may_differ and len(text) <= _LONGEST_COMPARED and not _SPELLED_IN_WAYS & set(text)


def _has_one_spelling(name: str, text: str | None) -> bool:
    """Returns whether all runs with that value have the same text; 1 and 1.0 mean the same for most keys."""
    number = None if text is None else _number(text)
    return text is not None and (number is None or name in _COUNTS or not number.is_integer())


def _is_same(text: str, other: str) -> bool:
    return text == other or (_number(text) is not None and _number(text) == _number(other))


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return float(text)
    return None


def hash_without_fold(config: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Returns a hash that is the same for the jobs of all folds of a cross-validation."""
    kept = copy.deepcopy(dict(config))
    kept["split"]["fold"] = None
    return job_hash(kept, files)


def warn_of_changed_data(run: Run, config: Mapping[str, Any]) -> None:
    """Warns if the data set has changed since the stored predictions of `run` were made.

    Data that cannot be read, or whose images would have to be decoded first, are not compared.
    """
    try:
        data = present_fingerprint(config)
    except UserError as error:
        log.info(
            "the data of run %s cannot be compared with the present ones: %s", run.run_id, str(error).splitlines()[0]
        )
        return
    changed = [] if data is None else data.differences(run.tags)
    if changed:
        log.warning(
            "the data set differs from that of run %s in: %s. Its stored predictions are evaluated with the labels of "
            "that data set; %s trains on the present data",
            run.run_id,
            "; ".join(changed),
            next_command("reproduce", f"run={run.run_id}"),
        )


def predictions_elsewhere(trained: TrainedRun, request: EvaluationRequest) -> tuple[pd.DataFrame, bool]:
    """Returns the predictions on another data set, and whether that has images which the run has seen.

    Raises:
        ConfigError: the data set has no pictures of a kind that the network reads.
        LeakageError: the run has seen some of the images, and `request` does not allow that.
        DataError: the labels belong to fewer than two of the network's classes (see `map_classes`).
    """
    assert request.dataset is not None, "the caller checks that there is another data set"
    config = trained.job_config("predictions on another data set")
    node = {**request.dataset, **{key: config["dataset"][key] for key in SHARED_KEYS}}
    node["view"] = view_elsewhere(config["dataset"], request.dataset, request.view)
    if node.get("pseudo_labels"):
        raise ConfigError(
            "expected a data set whose labels people gave, got dataset.pseudo_labels: pseudo-labels are for training "
            "alone; leave the key out"
        )
    with as_in_training():
        loaded = load_data({**config, "dataset": node})
    run, (seen, related) = trained.run, _seen(trained.run, loaded.table, node)
    if (seen or related) and not request.allow_leakage:
        others = f", and {len(related):,} show a lesion or a patient of such images" if related else ""
        remedy = _OF_OTHER_PATIENTS if related and not seen and has_ids_of_a_folder(node) else ""
        raise LeakageError(
            f"expected a data set that run {run.run_id} has not seen, but {len(seen):,} of its {len(loaded.table):,} "
            f"images are in the training or validation part of the run, of one whose weights it started from, or of "
            f"its teacher{others}:\n{first_cases([*seen, *related])}\n"
            f"leave them out with dataset.filter, or evaluate them nevertheless with split.allow_leakage=true (the "
            f"result is then marked leaky){remedy}"
        )
    network = trained.network()
    table = map_classes(loaded.table, network.classes, display_name(node))
    return network.predict(table, loaded.store), bool(seen or related)


def _seen(run: Run, table: pd.DataFrame, dataset: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Ids of the images of `table` whose labels `run` knows, from its training or one before it, and of further images
    of the same lesions and patients.

    Images that were seen without their labels are warned of, and ids that may mean lesions and patients of other data.

    Args:
        run: the run.
        table: the data set, in which the images are looked for.
        dataset: the node `dataset` of its config.
    """
    table = with_id_origin(table, dataset)
    before = read_stored_table(run, artifacts.SEEN_BEFORE)
    rows = pd.concat([rows_of(run, ("train", "val")), *([] if before is None else [before])], ignore_index=True)
    labelled = rows[rows["use"].isin([LABELS, CHOSEN])]
    images, related = seen_again(table, labelled)
    warn_of_same_ids(table[~images], labelled, dataset)
    others = find_seen(table.assign(split="test"), rows[rows["use"].isin([IMAGES, PROBED])]).in_words()
    if others:
        log.warning(
            "warning: the initial weights of run %s, or its teachers, have seen %s of this data set; %s",
            run.run_id,
            others,
            TRANSDUCTIVE,
        )
    names = table["image_id"].astype(str)
    return names[images].tolist(), names[related & ~images].tolist()
