"""The evaluation of an ensemble of runs, which is stored as a new run."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from lesion_exp.choices import POOLED, SOUP, STACKED
from lesion_exp.config.command_words import without_place
from lesion_exp.config.own_code import AND, code_tags
from lesion_exp.evaluation.comparison import Difference
from lesion_exp.evaluation.evaluation_result import EvaluationResult, evaluate_table
from lesion_exp.evaluation.posthoc import PosthocModels, fit_on_validation
from lesion_exp.evaluation.registry import only_metrics
from lesion_exp.progress import Stage
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run, runs_where
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_description import score_tags
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import MEMBERS_TAG, PARENT_TAG, SEEN_TAG, Run, download_artifact, read_stored_table
from lesion_exp.trained_runs.trained_run import TrainedRun, joined_tta
from lesion_exp.training.added_metrics import added_scores
from lesion_exp.training.part_evaluation import (
    evaluation_options,
    log_evaluation,
    log_other_evaluation,
    log_posthoc_models,
    part_results,
)
from lesion_exp.verbs.evaluate.combine import combine
from lesion_exp.verbs.evaluate.combined import Combined, are_folds
from lesion_exp.verbs.evaluate.request import EvaluationRequest
from lesion_exp.verbs.evaluate.run_evaluation import RunEvaluation, against_as_plain, name_and_title
from lesion_exp.verbs.evaluate.stack import compared_with_members, described

log = logging.getLogger(__name__)

KIND: Final = "ensemble"
"""The tag `kind` of a run with the combined predictions of others; that of a soup, which has a network, is `soup`."""
_SHARED_TAGS: Final = ("dataset", "backbone", "sampler", "loss", "split_hash", "dataset_fingerprint")
_LONGEST_NAME: Final = 200


def evaluate_ensemble(members: Sequence[TrainedRun], request: EvaluationRequest) -> RunEvaluation:
    """Evaluates an ensemble of runs and stores the result in a new run.

    The result of all folds of a sweep without other cells is stored in the run of the sweep.

    Raises:
        ConfigError: the runs or options cannot be combined.
        DataError: the runs have different images, classes or labels.
    """
    options = {**members[0].evaluation, "ensemble": _method(members, request)}
    if options["ensemble"] != SOUP:  # which has one network, that predicts as the first run does
        options["tta"] = joined_tta(member.evaluation["tta"] for member in members)
    if options["ensemble"] == STACKED:
        options |= described(request.stack)
    with tempfile.TemporaryDirectory(prefix="lesion_exp_ensemble_") as folder:
        combined = combine(members, options["ensemble"], request, Path(folder))
        posthoc = None
        if combined.validation is not None:
            posthoc = fit_on_validation(combined.validation, options["conformal_alpha"])
        elif request.part == "test":
            log.warning("no validation part was held out from all runs and predicted by all, so calibration, conformal "
                        "sets and operating points cannot be fitted and are left out")  # fmt: skip
        with Stage(f"evaluating {len(members)} runs as one"):
            results = _results(combined, posthoc, options, members[0].config)
        key = "other" if request.dataset is not None else request.part
        against = _against(results[key].whole, combined, options)
        name, title = name_and_title(request, len(results[key].table))
        leaky = combined.has_seen or any(member.leaky for member in members)
        sweep = _sweep_of(members) if options["ensemble"] == POOLED else None
        if sweep is not None:
            run: RunWriter = RunWriter.of(sweep)
            values = _log(run, members, combined, posthoc, results, (name, title))
            run.log_late_metrics(values)
            _log_overrides(run, request)
            tags = {"ensemble": POOLED, **_members_tag(members), **_seen_tag(members), "leaky": str(leaky).lower()}
            for tag, text in {**tags, **score_tags(values, leaky)}.items():
                run.store.client.set_tag(run.run_id, tag, text)
        else:
            with _start(members, options, leaky, title) as own:
                values = _log(own, members, combined, posthoc, results, (name, title))
                _log_overrides(own, request)
                if against:
                    own.log_json(against_as_plain(against), artifacts.STACKING_COMPARED)
                own.log_metrics(values, step=0)
                own.set_tags(score_tags(values, leaky))
                run = own
    ids = tuple(member.run.run_id for member in members)
    applied = None if key == "val" else posthoc
    run_name = _name(members, options["ensemble"])
    kept = combined.files.get(artifacts.STACKING, {})
    return RunEvaluation(
        run.run_id, run_name, name, title, ids, options, leaky, results[key], applied, against,
        kept.get("importance", ()), combined.notes,
    )  # fmt: skip


def _log_overrides(run: RunWriter, request: EvaluationRequest) -> None:
    """Logs how the ensemble was evaluated, without locations on this machine, for the command that does so again."""
    run.log_json(list(map(without_place, request.overrides)), artifacts.ENSEMBLE_OVERRIDES)


def _against(table: pd.DataFrame, combined: Combined, options: Mapping[str, Any]) -> dict[str, dict[str, Difference]]:
    """The differences between a stacked ensemble and its members; empty for other ensembles."""
    if not combined.tables:
        return {}
    with Stage("comparing the stacked ensemble with its members"):
        draws, seed = int(options["bootstrap_draws"]), int(options["bootstrap_seed"])
        return compared_with_members(table, combined.tables, draws, seed, options["bootstrap_unit"])


def _method(members: Sequence[TrainedRun], request: EvaluationRequest) -> str:
    """The method of combination: that of the user, else pooling for the folds of a cross-validation."""
    if are_folds(members) and request.dataset is None and "ensemble" not in request.chosen:
        return POOLED
    return str(members[0].evaluation["ensemble"])


def _sweep_of(members: Sequence[TrainedRun]) -> Run | None:
    """The run of the sweep whose cells are exactly the members; None if there is none."""
    parents = {member.run.tags.get(PARENT_TAG) for member in members}
    parent = parents.pop() if len(parents) == 1 else None
    if parent is None:
        return None
    store = members[0].run.store
    if len(list(runs_where(store, f"tags.`{PARENT_TAG}` = '{parent}'"))) != len(members):
        return None
    return find_run(store, parent)


def _results(
    combined: Combined, posthoc: PosthocModels | None, options: Mapping[str, Any], config: Mapping[str, Any] | None
) -> dict[str, EvaluationResult]:
    """The evaluations of all tables of `combined`, by `val`, `test` and `other`."""
    tables = {"val": (combined.validation, None), "test": (combined.test, posthoc), "other": (combined.other, posthoc)}
    return {
        key: evaluate_table(table, applied, evaluation_options(options), added_scores(config, table))
        for key, (table, applied) in tables.items()
        if table is not None
    }


def _start(members: Sequence[TrainedRun], options: Mapping[str, Any], leaky: bool, title: str) -> TrackedRun:
    runs, method = [member.run for member in members], options["ensemble"]
    store = runs[0].store
    experiment = store.client.get_experiment(runs[0].experiment_id).name
    links = [f"- [{run.run_id[:8]}](#/experiments/{run.experiment_id}/runs/{run.run_id}) {run.name}" for run in runs]
    known = {tag: {run.tags[tag] for run in runs if run.tags.get(tag)} for tag in _SHARED_TAGS}
    tags = {
        **{tag: values.pop() for tag, values in known.items() if len(values) == 1},
        "kind": SOUP if method == SOUP else KIND,
        "ensemble": method,
        **_members_tag(members),
        **_nesting(members),
        **_seen_tag(members),
        **(_code_tags(members) if method == SOUP else {}),
        "leaky": str(leaky).lower(),
        "mlflow.note.content": "\n".join(
            [f"{len(runs)} run{'s' * (len(runs) > 1)} as one ({method}), evaluated on the {title}:", "", *links]
        ),
    }
    params = {"evaluation": dict(options)}
    return TrackedRun.start(store, experiment, _name(members, method), tags, params, system_metrics_seconds=0)


def _members_tag(members: Sequence[TrainedRun]) -> dict[str, str]:
    return {MEMBERS_TAG: ",".join(member.run.run_id for member in members)}


def _seen_tag(members: Sequence[TrainedRun]) -> dict[str, str]:
    """The tag that says what the initial weights of the members have seen; empty if they have seen nothing."""
    texts = dict.fromkeys(member.run.tags[SEEN_TAG] for member in members if SEEN_TAG in member.run.tags)
    return {SEEN_TAG: "; ".join(texts)} if texts else {}


def _code_tags(members: Sequence[TrainedRun]) -> dict[str, str]:
    """The tags with the states of the user's code with which the members of a soup were trained and it was made."""
    found: dict[str, str] = {}
    for name, now in code_tags(members[0].job_config("a soup")).items():
        texts = [member.run.tags[name] for member in members if name in member.run.tags]
        states = dict.fromkeys(state for text in texts for state in text.split(AND))
        found |= {name: AND.join({**states, now: None})} if states else {}
    return found


def _nesting(members: Sequence[TrainedRun]) -> dict[str, str]:
    """The tag that nests the run below the sweep to which all members belong; empty if there is none."""
    parents = {member.run.tags.get(PARENT_TAG, "") for member in members}
    return {PARENT_TAG: parent} if len(parents) == 1 and (parent := parents.pop()) else {}


def _name(members: Sequence[TrainedRun], method: str) -> str:
    names = list(dict.fromkeys(member.run.name for member in members))
    if method == POOLED:  # the words that the names of all folds share, without the fold
        shared = [word for word in names[0].split() if all(word in name.split() for name in names)]
        names = [" ".join(shared)] if shared else names
    return f"{method} of {len(members)}: {' / '.join(names)}"[:_LONGEST_NAME]


def _log(
    run: RunWriter,
    members: Sequence[TrainedRun],
    combined: Combined,
    posthoc: PosthocModels | None,
    results: Mapping[str, EvaluationResult],
    name_and_title: tuple[str, str],
) -> dict[str, float]:
    """Logs everything by which the run can be used like a trained one, and returns its metrics.

    These are predictions, evaluations, what was fitted on the validation part, and the network of a soup.
    """
    metrics: dict[str, float] = {}
    for path, content in combined.files.items():
        run.log_json(content, path)
    if posthoc is not None:
        log_posthoc_models(run, posthoc)
    if combined.checkpoint is not None:
        from lesion_exp.model.checkpoint_file import state_hash
        from lesion_exp.model.save_model import keep_checkpoint

        config = members[0].job_config("a soup")
        calibrators = {} if posthoc is None else posthoc.calibrators
        content = keep_checkpoint(run, combined.checkpoint, config, calibrators)
        run.store.client.set_tag(run.run_id, "weights_hash", state_hash(content["state_dict"]))
        for path in (artifacts.JOB, artifacts.MANIFEST, artifacts.AUDIT):
            run.log_file(download_artifact(members[0].run, path), path)
        tables = (read_stored_table(member.run, artifacts.SEEN_BEFORE) for member in members)
        before = [table for table in tables if table is not None]
        if before:
            seen = pd.concat(before, ignore_index=True).drop_duplicates(ignore_index=True)
            run.log_table(seen, artifacts.SEEN_BEFORE)
    if "val" in results:
        log_evaluation(run, "val", results["val"])
        of_an_epoch = only_metrics(part_results("val", results["val"]))
        metrics |= {f"best/{name}": value for name, value in of_an_epoch.items()}
    if "test" in results:
        log_evaluation(run, "test", results["test"])
        metrics |= part_results("test", results["test"]) | results["test"].section_results()
    if "other" in results:
        name, title = name_and_title
        folder = artifacts.evaluation(name)
        log_other_evaluation(run, folder, results["other"], title)
        metrics |= part_results(folder, results["other"])
    return only_metrics(metrics)
