"""Judges runs and keeps what it finds: of one run with itself, of several as one with a new run."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from lesion_exp.config.freeze import Job
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.evaluation_result import evaluate_table
from lesion_exp.evaluation.posthoc import fit_on_validation
from lesion_exp.evaluation.predictions import known_rows
from lesion_exp.evaluation.registry import only_metrics
from lesion_exp.progress import Stage
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import PARENT_TAG, Run, runs_where
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.store import Store
from lesion_exp.trained_runs.trained_run import TrainedRun
from lesion_exp.training.added_metrics import added_scores
from lesion_exp.training.part_evaluation import (
    evaluation_options,
    log_fitted,
    log_judged,
    log_study,
    part_results,
)
from lesion_exp.training.tracked import job_of
from lesion_exp.verbs.evaluate.member import make_members, other_predictions, say_changes, without_fold
from lesion_exp.verbs.evaluate.request import EvaluationRequest
from lesion_exp.verbs.evaluate.run_evaluation import OWN_PARTS, RunEvaluation, name_and_title
from lesion_exp.verbs.evaluate.several import MEMBERS_TAG, judge_several

log = logging.getLogger(__name__)


def evaluate(runs: Sequence[Run], request: EvaluationRequest, project: Project) -> RunEvaluation:
    """What a run comes to, or several as one; `project` is that of this machine.

    Of one run the files are kept below `evaluation/NAME/`, in place of those that training left where NAME is `val` or
    `test`; on other data the headline results are metrics `evaluation/NAME/...`, too. Several runs become a run of
    their own, with predictions and metrics like those of one that was trained.

    Raises:
        ConfigError: runs or options that do not go together.
        DataError: predictions, checkpoints or data that are not there, or not what they were.
    """
    members = make_members(runs, request, project)
    for member in members if request.dataset is None else ():
        if member.config is not None and not member.predicts_anew:  # new predictions refuse other data
            say_changes(member.run, member.config)
    if len(members) > 1:
        return judge_several(members, request)
    if "ensemble" in request.chosen:
        raise ConfigError("expected at least two runs for an ensemble, got one; name them run=[A,B], or run=folds:RUN")
    return _judge_one(members[0], request)


def _judge_one(member: TrainedRun, request: EvaluationRequest) -> RunEvaluation:
    run, options = member.run, member.evaluation
    is_own_part = request.dataset is None
    table, has_seen = (member.predictions(request.part), False) if is_own_part else other_predictions(member, request)
    fitted = None
    if not (is_own_part and request.part == "val"):
        fitted = fit_on_validation(member.predictions("val"), options["conformal_alpha"])
    name, title = name_and_title(request, len(known_rows(table)), options["tta"] if member.predicts_anew else None)
    with Stage(f"judging {title}"):
        found = evaluate_table(table, fitted, evaluation_options(options), added_scores(member.config, table))
    judged = RunEvaluation(run.run_id, run.name, name, title, (), options, member.leaky or has_seen, found, fitted)
    with Stage("keeping results and figures"):
        _log(RunWriter.of(run), judged)
    return judged


def _log(run: RunWriter, judged: RunEvaluation) -> None:
    folder = artifacts.evaluation(judged.name)
    if judged.name in OWN_PARTS:  # report and curves of these predictions were logged when the run ended
        log_study(run, folder, judged.study, judged.title)
    else:
        log_judged(run, folder, judged.study, judged.title)
    if judged.name == "test" and judged.fitted is not None:
        log_fitted(run, judged.fitted)
    if judged.name not in OWN_PARTS:
        run.log_late_metrics(only_metrics(part_results(folder, judged.study)))


def judge_folds(store: Store, parent: str, project: Project) -> list[RunEvaluation]:
    """Each cross-validation below the run `parent` whose folds have all been tested, and that was not judged before.

    Raises:
        DataError: predictions that are not there, or not what they were.
    """
    found: dict[str, dict[int, tuple[Run, Job]]] = {}
    condition = f"attributes.status = 'FINISHED' and tags.`{PARENT_TAG}` = '{parent}' and tags.kind = 'train'"
    for run in runs_where(store, condition):
        job = job_of(run)
        if job.config["test"] and {"fold", "num_folds"} <= set(job.config["split"]):
            folds = found.setdefault(without_fold(job.config, job.files), {})
            folds.setdefault(int(job.config["split"]["fold"]), (run, job))
    judged = []
    for folds in found.values():
        runs, (_, job) = [run for _, (run, _) in sorted(folds.items())], next(iter(folds.values()))
        missing = set(range(job.config["split"]["num_folds"])) - set(folds)
        if missing:
            log.warning("not judged as one: no finished run of fold %s", ", ".join(map(str, sorted(missing))))
        elif not _is_judged(store, parent, runs):
            judged.append(evaluate(runs, EvaluationRequest(part="test", evaluation=job.config["evaluation"]), project))
    return judged


def _is_judged(store: Store, parent: str, runs: Sequence[Run]) -> bool:
    """Whether the sweep's own run holds their result (its tags are written last), or a finished run below it."""
    members = ",".join(run.run_id for run in runs)
    found = runs_where(store, f"tags.{MEMBERS_TAG} = '{members}'")
    return any(
        run.run_id == parent or (run.status == "FINISHED" and run.tags.get(PARENT_TAG) == parent) for run in found
    )
