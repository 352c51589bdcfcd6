"""The cross-validations among the cells of a sweep, each judged as one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from lesion_exp.config.freeze import Job
from lesion_exp.tracking.find import PARENT_TAG, Run, runs_where
from lesion_exp.tracking.store import Store
from lesion_exp.training.job_tags import job_of
from lesion_exp.verbs.evaluate.evaluate import evaluate
from lesion_exp.verbs.evaluate.member import without_fold
from lesion_exp.verbs.evaluate.request import EvaluationRequest
from lesion_exp.verbs.evaluate.run_evaluation import RunEvaluation
from lesion_exp.verbs.evaluate.several import MEMBERS_TAG

log = logging.getLogger(__name__)


def judge_folds(store: Store, parent: str, paths: Mapping[str, Any]) -> list[RunEvaluation]:
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
            judged.append(evaluate(runs, EvaluationRequest(part="test", evaluation=job.config["evaluation"]), paths))
    return judged


def _is_judged(store: Store, parent: str, runs: Sequence[Run]) -> bool:
    """Whether the sweep's own run holds their result (its tags are written last), or a finished run below it."""
    members = ",".join(run.run_id for run in runs)
    found = runs_where(store, f"tags.{MEMBERS_TAG} = '{members}'")
    return any(
        run.run_id == parent or (run.status == "FINISHED" and run.tags.get(PARENT_TAG) == parent) for run in found
    )
