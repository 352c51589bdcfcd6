"""Evaluates runs and stores the results: those of one run in this run, those of an ensemble in a new run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from lesion_exp.choices import STACKED
from lesion_exp.config.freeze import Job
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.evaluation_result import evaluate_table
from lesion_exp.evaluation.posthoc import PosthocModels, fit_on_validation
from lesion_exp.evaluation.predictions import has_labels_only, known_rows
from lesion_exp.evaluation.registry import only_metrics
from lesion_exp.progress import Stage
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import runs_where
from lesion_exp.tracking.mlflow_values import allowed_name
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import MEMBERS_TAG, PARENT_TAG, SEEN_TAG, Run
from lesion_exp.trained_runs.trained_run import TrainedRun
from lesion_exp.training.added_metrics import added_scores
from lesion_exp.training.part_evaluation import (
    evaluation_options,
    final_results,
    log_evaluation_files,
    log_other_evaluation,
    log_posthoc_models,
    log_reliability,
    log_report,
    part_results,
)
from lesion_exp.training.tracked import job_of
from lesion_exp.verbs.evaluate.ensemble_run import evaluate_ensemble
from lesion_exp.verbs.evaluate.evaluated_runs import (
    evaluated_runs,
    hash_without_fold,
    predictions_elsewhere,
    warn_of_changed_data,
)
from lesion_exp.verbs.evaluate.request import EvaluationRequest
from lesion_exp.verbs.evaluate.run_evaluation import RunEvaluation, name_and_title

log = logging.getLogger(__name__)

_ENDS: Final = ("_low", "_high")


def evaluate(runs: Sequence[Run], request: EvaluationRequest, project: Project) -> RunEvaluation:
    """Evaluates a run, or several runs as an ensemble.

    The files of one run are stored below `evaluation/NAME/`. If NAME is `val` or `test`, they replace those of its
    training; on other data the headline results are also metrics `evaluation/NAME/...`. An ensemble becomes a new run,
    with predictions and metrics like those of a trained run.

    Args:
        runs: one run, or the members of an ensemble.
        request: what to evaluate, and how.
        project: the project of this machine.

    Raises:
        ConfigError: the runs or options cannot be combined.
        DataError: predictions, checkpoints or data are missing or have changed.
    """
    trained = evaluated_runs(runs, request, project)
    for one in trained if request.dataset is None else ():
        if one.config is not None and not one.needs_new_predictions:  # new predictions on changed data raise an error
            warn_of_changed_data(one.run, one.config)
    if len(trained) > 1 or ("ensemble" in request.chosen and request.evaluation["ensemble"] == STACKED):
        return evaluate_ensemble(trained, request)
    if "ensemble" in request.chosen:
        raise ConfigError("expected at least two runs for an ensemble, got one; name them run=[A,B], or run=folds:RUN")
    return _evaluate_one(trained[0], request)


def _evaluate_one(trained: TrainedRun, request: EvaluationRequest) -> RunEvaluation:
    run, options = trained.run, trained.evaluation
    is_own_part = request.dataset is None
    if is_own_part:
        table, has_seen = trained.predictions(request.part), False
        if SEEN_TAG in run.tags:
            log.warning("warning: the initial weights of run %s have seen %s", run.run_id, run.tags[SEEN_TAG])
    else:
        table, has_seen = predictions_elsewhere(trained, request)
    posthoc = None
    if not (is_own_part and request.part == "val"):
        posthoc = _fitted_on_validation(trained, request)
    name, title = name_and_title(
        request, len(known_rows(table)), options["tta"] if trained.needs_new_predictions else None
    )
    with Stage(f"evaluating {title}"):
        result = evaluate_table(table, posthoc, evaluation_options(options), added_scores(trained.config, table))
    found = RunEvaluation(run.run_id, run.name, name, title, (), options, trained.leaky or has_seen, result, posthoc)
    with Stage("storing results and figures"):
        _log(run, found)
    return found


def _fitted_on_validation(trained: TrainedRun, request: EvaluationRequest) -> PosthocModels | None:
    """The models that are fitted on the validation part; None for a run of predictions that has none of them.

    Raises:
        ConfigError: a calibration is asked for nevertheless.
    """
    options = trained.evaluation
    if not trained.lacks_predictions("val") and not has_labels_only(validation := trained.predictions("val")):
        return fit_on_validation(validation, options["conformal_alpha"])
    if "calibration" in request.chosen and options["calibration"] != "none":
        raise ConfigError(
            f"expected calibration=none for run {trained.run_id} ({trained.run.name}), which has no probabilities of a "
            f"validation part, got {options['calibration']}; leave calibration= out"
        )
    return None


def _log(stored: Run, found: RunEvaluation) -> None:
    folder, run = artifacts.evaluation(found.name), RunWriter.of(stored)
    if found.name in ("val", "test"):  # pictures without intervals were logged when the run ended
        log_report(run, found.name, found.result)
        log_reliability(run, found.name, found.result)
        log_evaluation_files(run, folder, found.result, found.title)
        run.log_late_metrics(_renewed(stored, found))
    else:
        log_other_evaluation(run, folder, found.result, found.title)
        run.log_late_metrics(only_metrics(part_results(folder, found.result)))
    if found.name == "test" and found.posthoc is not None:
        log_posthoc_models(run, found.posthoc)


def _renewed(run: Run, found: RunEvaluation) -> dict[str, float]:
    """The metrics of an evaluation of the run's own part, whose intervals may be over other units, or of other draws.

    Of validation, a run that was trained has no intervals among its metrics, and its values are those of an epoch.
    """
    if found.name == "test":
        return only_metrics(final_results({}, found.result))
    values = {f"best/{name}": value for name, value in part_results("val", found.result).items()}
    return {name: value for name, value in values.items()
            if name.endswith(_ENDS) and allowed_name(name) in run.metrics}  # fmt: skip


def evaluate_folds(store: Store, parent: str, project: Project) -> list[RunEvaluation]:
    """Evaluates each cross-validation below the run `parent` whose folds have all been tested, unless that was done
    before.

    Raises:
        DataError: predictions are missing or have changed.
    """
    found: dict[str, dict[int, tuple[Run, Job]]] = {}
    condition = f"attributes.status = 'FINISHED' and tags.`{PARENT_TAG}` = '{parent}' and tags.kind = 'train'"
    for run in runs_where(store, condition):
        job = job_of(run)
        if job.config["test"] and {"fold", "num_folds"} <= set(job.config["split"]):
            folds = found.setdefault(hash_without_fold(job.config, job.files), {})
            folds.setdefault(int(job.config["split"]["fold"]), (run, job))
    evaluations = []
    for folds in found.values():
        runs, (_, job) = [run for _, (run, _) in sorted(folds.items())], next(iter(folds.values()))
        missing = set(range(job.config["split"]["num_folds"])) - set(folds)
        if missing:
            log.warning(
                "the folds are not evaluated together: no finished run of fold %s", ", ".join(map(str, sorted(missing)))
            )
        elif not _is_evaluated(store, parent, runs):
            request = EvaluationRequest(part="test", evaluation=job.config["evaluation"])
            evaluations.append(evaluate(runs, request, project))
    return evaluations


def _is_evaluated(store: Store, parent: str, runs: Sequence[Run]) -> bool:
    """Whether the run of the sweep has their result (its tags are written last), or a finished run below it."""
    members = ",".join(run.run_id for run in runs)
    found = runs_where(store, f"tags.{MEMBERS_TAG} = '{members}'")
    return any(
        run.run_id == parent or (run.status == "FINISHED" and run.tags.get(PARENT_TAG) == parent) for run in found
    )
