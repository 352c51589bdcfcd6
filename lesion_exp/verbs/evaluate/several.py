"""Several runs judged as one, which becomes a run of its own."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lesion_exp.choices import POOLED, SOUP
from lesion_exp.evaluation.evaluation_result import EvaluationResult, evaluate_table
from lesion_exp.evaluation.posthoc import PosthocModels, fit_on_validation
from lesion_exp.evaluation.registry import only_metrics
from lesion_exp.progress import Stage
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import PARENT_TAG, Run, download_artifact, find_run, runs_where
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_description import score_tags
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.trained_runs.trained_run import TrainedRun
from lesion_exp.training.added_metrics import added_scores
from lesion_exp.training.part_evaluation import evaluation_options, log_evaluation, log_fitted, log_judged, part_results
from lesion_exp.verbs.evaluate.join import Joined, are_folds, join
from lesion_exp.verbs.evaluate.request import EvaluationRequest
from lesion_exp.verbs.evaluate.run_evaluation import RunEvaluation, name_and_title

log = logging.getLogger(__name__)

KIND: Final = "ensemble"
"""The tag `kind` of a run that joins the predictions of others; that of a soup, which has a network, is `soup`."""
MEMBERS_TAG: Final = "members"
"""The ids of the runs that were joined, in order."""
_SHARED_TAGS: Final = ("dataset", "backbone", "sampler", "loss", "split_hash", "dataset_fingerprint")
_LONGEST_NAME: Final = 200


def judge_several(members: Sequence[TrainedRun], request: EvaluationRequest) -> RunEvaluation:
    """The runs as one: the folds of a sweep that has no other cells on the sweep's own run, all else on a new one.

    Raises:
        ConfigError: runs or options that do not go together.
        DataError: they are of different images, classes or labels.
    """
    options = {**members[0].evaluation, "ensemble": _way(members, request)}
    with tempfile.TemporaryDirectory(prefix="lesion_exp_ensemble_") as folder:
        joined = join(members, options["ensemble"], request, Path(folder))
        fitted = None
        if joined.validation is not None:
            fitted = fit_on_validation(joined.validation, options["conformal_alpha"])
        elif request.part == "test":
            log.warning("no image was held out from all runs: nothing is fitted (calibration, conformal sets, "
                        "operating points)")  # fmt: skip
        with Stage(f"judging {len(members)} runs as one"):
            studies = _studies(joined, fitted, options, members[0].config)
        key = "other" if request.dataset is not None else request.part
        name, title = name_and_title(request, len(studies[key].table))
        leaky = joined.has_seen or any(member.leaky for member in members)
        whole = _sweep_of(members) if options["ensemble"] == POOLED else None
        if whole is not None:
            run: RunWriter = RunWriter.of(whole)
            values = _log(run, members, joined, fitted, studies, (name, title))
            run.log_late_metrics(values)
            tags = {"ensemble": POOLED, **_members_tag(members), "leaky": str(leaky).lower()}
            for tag, text in {**tags, **score_tags(values, leaky)}.items():
                run.store.client.set_tag(run.run_id, tag, text)
        else:
            with _start(members, options, leaky, title) as own:
                values = _log(own, members, joined, fitted, studies, (name, title))
                own.log_metrics(values, step=0)
                own.set_tags(score_tags(values, leaky))
                run = own
    ids = tuple(member.run.run_id for member in members)
    applied = None if key == "val" else fitted
    run_name = _name(members, options["ensemble"])
    return RunEvaluation(run.run_id, run_name, name, title, ids, options, leaky, studies[key], applied)


def _way(members: Sequence[TrainedRun], request: EvaluationRequest) -> str:
    """How the runs are joined: as the user says, else the folds of a cross-validation by pooling."""
    if are_folds(members) and request.dataset is None and "ensemble" not in request.chosen:
        return POOLED
    return str(members[0].evaluation["ensemble"])


def _sweep_of(members: Sequence[TrainedRun]) -> Run | None:
    """The run of the sweep whose cells are the members and no others."""
    parents = {member.run.tags.get(PARENT_TAG) for member in members}
    parent = parents.pop() if len(parents) == 1 else None
    if parent is None:
        return None
    store = members[0].run.store
    if len(list(runs_where(store, f"tags.`{PARENT_TAG}` = '{parent}'"))) != len(members):
        return None
    return find_run(store, parent)


def _studies(
    joined: Joined, fitted: PosthocModels | None, options: Mapping[str, Any], config: Mapping[str, Any] | None
) -> dict[str, EvaluationResult]:
    tables = {"val": (joined.validation, None), "test": (joined.test, fitted), "other": (joined.other, fitted)}
    how = evaluation_options(options)
    return {
        key: evaluate_table(table, applied, how, added_scores(config, table))
        for key, (table, applied) in tables.items()
        if table is not None
    }


def _start(members: Sequence[TrainedRun], options: Mapping[str, Any], leaky: bool, title: str) -> TrackedRun:
    runs, way = [member.run for member in members], options["ensemble"]
    store = runs[0].store
    experiment = store.client.get_experiment(runs[0].experiment_id).name
    links = [f"- [{run.run_id[:8]}](#/experiments/{run.experiment_id}/runs/{run.run_id}) {run.name}" for run in runs]
    tags = {
        **{tag: runs[0].tags[tag] for tag in _SHARED_TAGS if len({run.tags.get(tag, "") for run in runs} - {""}) == 1},
        "kind": SOUP if way == SOUP else KIND,
        "ensemble": way,
        **_members_tag(members),
        **_nesting(members),
        "leaky": str(leaky).lower(),
        "mlflow.note.content": "\n".join([f"{len(runs)} runs as one ({way}), judged on the {title}:", "", *links]),
    }
    params = {"evaluation": dict(options)}
    return TrackedRun.start(store, experiment, _name(members, way), tags, params, system_metrics_seconds=0)


def _members_tag(members: Sequence[TrainedRun]) -> dict[str, str]:
    return {MEMBERS_TAG: ",".join(member.run.run_id for member in members)}


def _nesting(members: Sequence[TrainedRun]) -> dict[str, str]:
    """The tag that shows the run below the sweep that all members belong to."""
    parents = {member.run.tags.get(PARENT_TAG, "") for member in members}
    return {PARENT_TAG: parent} if len(parents) == 1 and (parent := parents.pop()) else {}


def _name(members: Sequence[TrainedRun], way: str) -> str:
    names = list(dict.fromkeys(member.run.name for member in members))
    if way == POOLED:  # without the fold, which tells the members apart: what they have in common
        shared = [word for word in names[0].split() if all(word in name.split() for name in names)]
        names = [" ".join(shared)] if shared else names
    return f"{way} of {len(members)}: {' / '.join(names)}"[:_LONGEST_NAME]


def _log(
    run: RunWriter,
    members: Sequence[TrainedRun],
    joined: Joined,
    fitted: PosthocModels | None,
    studies: Mapping[str, EvaluationResult],
    judged: tuple[str, str],
) -> dict[str, float]:
    """Logs what makes the run usable like one that was trained: predictions, what was fitted, a soup's network.

    Its metrics are returned.
    """
    metrics: dict[str, float] = {}
    for path, content in joined.files.items():
        run.log_json(content, path)
    if fitted is not None:
        log_fitted(run, fitted)
    if joined.checkpoint is not None:
        from lesion_exp.model.save_model import keep_checkpoint

        config = members[0].job_config("a soup")
        keep_checkpoint(run, joined.checkpoint, config, {} if fitted is None else fitted.calibrators)
        for path in (artifacts.JOB, artifacts.MANIFEST, artifacts.AUDIT):
            run.log_file(download_artifact(members[0].run, path), path)
    if "val" in studies:
        log_evaluation(run, "val", studies["val"])
        of_an_epoch = only_metrics(part_results("val", studies["val"]))
        metrics |= {f"best/{name}": value for name, value in of_an_epoch.items()}
    if "test" in studies:
        log_evaluation(run, "test", studies["test"])
        metrics |= part_results("test", studies["test"]) | studies["test"].section_results()
    if "other" in studies:
        name, title = judged
        folder = artifacts.evaluation(name)
        log_judged(run, folder, studies["other"], title)
        metrics |= part_results(folder, studies["other"])
    return only_metrics(metrics)
