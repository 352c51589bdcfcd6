"""Runs a job: loads and splits the data, trains the network, predicts, evaluates, and logs everything."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.callbacks import Callback

from lesion_exp.backbone.backbone import Backbone
from lesion_exp.backbone.lora import check_peft
from lesion_exp.backbone.options import SHARED_KEYS
from lesion_exp.config.compatibility import check_complete
from lesion_exp.config.freeze import Job
from lesion_exp.config.instantiate import check_installed, check_targets
from lesion_exp.config.named_run import TEACHER
from lesion_exp.config.schema import TRAINER_ARGUMENTS, check_known_keys
from lesion_exp.errors import UserError
from lesion_exp.evaluation.evaluation_result import EvaluationResult
from lesion_exp.evaluation.posthoc import PosthocModels
from lesion_exp.evaluation.predictions import majority_baseline
from lesion_exp.evaluation.registry import WATCHED, only_metrics, short_of, shown_in
from lesion_exp.model.checkpoint_file import portable, read_checkpoint, state_hash
from lesion_exp.model.classifier import OPTIMIZER_COMMON_KEYS
from lesion_exp.model.inputs import SAMPLE_KEYS
from lesion_exp.model.network import merged_weights
from lesion_exp.model.precision import has_gpu
from lesion_exp.model.save_model import keep_checkpoint, keep_model
from lesion_exp.next_command import next_command
from lesion_exp.pretrain import COMMON_KEYS as PRETRAIN_KEYS
from lesion_exp.process.distributed_environment import (
    RankGroup,
    ignore_leftovers,
    inherited_group,
    join_group,
    may_start_again,
    run_module,
)
from lesion_exp.process.other_programs import OtherPrograms
from lesion_exp.process.peers import Peers, met
from lesion_exp.progress import Stage
from lesion_exp.split import COMMON_KEYS as SPLIT_KEYS
from lesion_exp.split import PARTS
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import READS_TAG, count_test_set_reads
from lesion_exp.tracking.lightning_logger import TrackingLogger
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_description import score_tags
from lesion_exp.training.added_metrics import check_added_metrics
from lesion_exp.training.build import Built, build, check_optimisation
from lesion_exp.training.callbacks import PruningCallback, TrainingProgress, Validations
from lesion_exp.training.check_pretraining import check_pretraining_keys
from lesion_exp.training.check_training import check_training
from lesion_exp.training.checkpoint import LAST, copy_best_checkpoint, read_by_first
from lesion_exp.training.data import TABLE_KEYS, SplitData, is_pretraining
from lesion_exp.training.frozen_features import cached_features
from lesion_exp.training.layout import as_begun, given_processes, on_processes, wanted_processes
from lesion_exp.training.lineage import with_lineage
from lesion_exp.training.part_evaluation import (
    EvaluatedPart,
    evaluate,
    final_results,
    fit_posthoc_models,
    log_evaluation,
    log_posthoc_models,
)
from lesion_exp.training.prediction import PartProgress, predict_in_training
from lesion_exp.training.pretraining import run_pretraining
from lesion_exp.training.results import describe_run, log_gallery
from lesion_exp.training.run_context import NO_CONTEXT, JobResult, RunContext
from lesion_exp.training.seen_before import with_inherited
from lesion_exp.training.sharded import check_sharding, load_weights
from lesion_exp.training.shared_split import split_of
from lesion_exp.training.started_run import beside_others, say_findings, started_run, store_of_first_rank
from lesion_exp.training.teacher import Teacher, attach_teacher, open_teacher
from lesion_exp.training.together import JOB, on_each_machine, prepare_layout, shared_context, shared_job, watched
from lesion_exp.training.tracked import job_choices
from lesion_exp.training.trainer import (
    OWN_KEYS,
    best_checkpoint,
    build_trainer,
    check_devices,
    check_trainer,
    check_whole_parts,
    keep_profile,
    num_devices_and_nodes,
)
from lesion_exp.training.tune import tune
from lesion_exp.training.watched_metrics import check_watched, watched_by

log = logging.getLogger(__name__)

UNREAD_KEYS: Final = {
    "backbone": SHARED_KEYS,
    "dataset": TABLE_KEYS | SAMPLE_KEYS | {"name"},
    "split": SPLIT_KEYS,
    "optimizer": OPTIMIZER_COMMON_KEYS,
    "pretrain": PRETRAIN_KEYS,
}
"""Keys of a node that are not passed to its target, since other code reads them."""


def train(job: Job, context: RunContext = NO_CONTEXT) -> JobResult:
    """Runs `job` in this process, or in several processes that are started for it.

    If `torchrun` or `srun` started this process as one of them, it becomes that rank; only the result of the first rank
    names the run.

    Raises:
        UserError: config or data cannot be used; nothing was trained.
        PeerLost: another process was lost; the run is KILLED.
        Exception: the error that ended the training; its run in the store is FAILED and contains the traceback.
    """
    check_job(job, here=False)
    any_number = context.continues is not None or may_start_again()
    group = join_group(*wanted_processes(job.config, context), any_number=any_number)
    context = replace(context, processes=given_processes(job.config, context, group))
    check_here(on_processes(as_begun(job.config, context), context.processes)["trainer"], context.continues)
    return _train_alone(job, context) if group is None else _train_together(job, context, group)


def follow() -> JobResult:
    """Runs, in a process that torchrun or srun started beside a first one, the job that the first one runs.

    The result names no run; it is the same where the first process has found nothing to train.

    Raises:
        UserError: see `train`.
        PeerLost: another process was lost, or the first one ended before they met.
        Exception: see `train`.
    """
    group = inherited_group(os.environ)
    assert group is not None, "a starter began this process"
    return _train_together(None, NO_CONTEXT, group)


def dismiss() -> None:
    """Ends the processes that follow this one: it has found that there is nothing to train."""
    group = inherited_group(os.environ)
    if group is not None and group.world_size > 1:
        with met(group) as peers:
            peers.tell(JOB, lambda: "")


def _train_alone(job: Job, context: RunContext) -> JobResult:
    """Runs `job` where no starter has begun other processes; this one starts those that are needed."""
    devices, nodes = wanted_processes(job.config, context)
    if devices * nodes > 1:
        return _train_in_processes(job, context)
    rank_zero_only.rank = 0  # type: ignore[attr-defined]
    return run_job(job, context)


def _train_together(job: Job | None, context: RunContext, group: RankGroup) -> JobResult:
    """Meets the processes of `group`, and runs the job of the first in each of them."""
    # Lightning read the environment when it was imported
    rank_zero_only.rank = group.rank  # type: ignore[attr-defined]
    with met(group) as peers:
        job = shared_job(job, peers)
        if job is None:
            return JobResult("")
        context = shared_context(job, context, peers)
        if context.continues is None and group.world_size == 1:
            ignore_leftovers()
            return _train_alone(job, context)
        if context.continues is None:
            group.check_fits(*num_devices_and_nodes(job.config["trainer"]))
        if may_start_again() and group.world_size > 1:
            peers.connect("nccl" if has_gpu(job.config["trainer"]["accelerator"]) else "gloo")
        processes = (peers.per_node, peers.size // peers.per_node)
        return run_job(job, replace(context, processes=processes), peers)


def check_job(job: Job, here: bool = True) -> None:
    """Checks `job` without its data: targets, keys, values, packages, devices and files.

    Devices are only checked if the job is to run `here`, on this machine.

    Raises:
        ConfigError: a target is not registered, a key is not one of its parameters, a value is refused, or a package,
            device or file is missing.
    """
    check_targets(job.config, UNREAD_KEYS)
    check_known_keys({"trainer": job.config["trainer"]}, {"trainer": dict.fromkeys((*OWN_KEYS, *TRAINER_ARGUMENTS))})
    check_complete(job.config)
    check_installed(job.config)
    if job.config["backbone"].get("tune") == "lora":
        check_peft()
    if is_pretraining(job.config):
        check_pretraining_keys(job.config, job.overrides)
    check_added_metrics(job.config)
    check_watched(job.config)
    check_sharding(job.config)
    check_whole_parts(job.config["trainer"])
    if here:
        check_here(job.config["trainer"])
    check_optimisation(job.config)
    job.check_files()


def check_here(node: Mapping[str, Any], continued: str | None = None) -> None:
    """Checks that this machine has the devices that `node` (the node `trainer`) asks for, and Lightning its values.

    `continued` is the id of the run that goes on, if one does.

    Raises:
        ConfigError: see `check_devices` and `check_trainer`.
    """
    check_devices(node, continued)
    check_trainer(node)


def run_job(job: Job, context: RunContext, peers: Peers | None = None) -> JobResult:
    """Runs `job` in this process, which may be one rank of several; `peers` are those that a starter began."""
    others = OtherPrograms()
    asked = as_begun(job.config, context)
    config = on_processes(asked, context.processes)
    if is_pretraining(config):
        return run_pretraining(job, context, (asked, config), others, peers)
    store = store_of_first_rank(config)
    with Stage("reading the data", background=True):
        split, inherited = split_of(config, peers), None
    with Stage("checking what the run begins with", background=True):
        if store is not None or peers is None:  # other machines may not see the runs
            split, inherited = with_inherited(config, split)
            split = with_lineage(config, split)
        with on_each_machine(peers, TEACHER):
            teacher = open_teacher(config, split.classes)
        warnings = [*check_training(config, split), *beside_others(config["trainer"], others)]
        findings = say_findings(split, inherited, warnings)
    with Stage("preparing the network"):
        built = build(config, split)
    prepare_layout(asked, config, built.classifier, built.datamodule)
    with (
        started_run(store, job, context, findings, built.classifier, built.datamodule) as (run, live_dir),
        watched(peers, run),
    ):
        trained = _fit_and_predict(config, _Prepared(split, built, teacher), run, live_dir, context)
        if run is None:
            return JobResult("")
        return _finish(job, split, run, trained, built.classifier.backbone)


@dataclass(frozen=True)
class _Prepared:
    """What a job trains on and with."""

    split: SplitData
    built: Built
    teacher: Teacher | None


@dataclass(frozen=True)
class _Trained:
    best_epoch: Mapping[str, float]
    best_step: int
    parts: Mapping[str, EvaluationResult]
    evaluation: PosthocModels | None
    best: Path | None
    last: Path
    pruned: bool
    precision: str
    """Lightning's name of the precision in which the parts were predicted."""


def _fit_and_predict(
    config: Mapping[str, Any], prepared: _Prepared, run: TrackedRun | None, live_dir: Path, context: RunContext
) -> _Trained:
    built = prepared.built
    validations = Validations()
    watched = watched_by(config)
    callbacks: list[Callback] = [TrainingProgress(watched), PartProgress(), validations]
    pruning = None if context.pruning_dir is None else PruningCallback(Path(context.pruning_dir))
    callbacks += [pruning] if pruning else []
    freezes = bool(config["backbone"].get("freeze_epochs", 0))
    logger = TrackingLogger(run, live_dir)
    trainer = build_trainer(config["trainer"], logger, live_dir, callbacks, watched, freezes=freezes)
    if run is not None and context.best is not None and context.checkpoint is not None:
        copy_best_checkpoint(Path(context.best), Path(context.checkpoint), live_dir)
    attach_teacher(prepared.teacher, config, prepared.split, built, trainer)
    built.datamodule.features = cached_features(config, built, trainer)
    with Stage("training", background=True):
        tune(config["trainer"], trainer, built, run)
        trainer.fit(built.classifier, datamodule=built.datamodule, ckpt_path=context.checkpoint, weights_only=True)
    dropped = built.datamodule.training_batches.dropped_tail if built.datamodule.training_batches else 0
    if dropped and trainer.is_global_zero:
        log.info("each epoch left out the last %d images of its order, since they do not fill a batch", dropped)
    last = live_dir / LAST
    best = best_checkpoint(trainer, last) if trainer.is_global_zero else None
    path = trainer.strategy.broadcast(str(best) if best else "")
    evaluated_step = trainer.global_step
    if path:
        content = read_by_first(lambda: read_checkpoint(Path(path)))
        built.classifier.backbone.merge_lora()  # as every later reader of the checkpoint has it
        load_weights(built.classifier, merged_weights(content["state_dict"], config["backbone"]))
        evaluated_step = int(content["global_step"])
    best_metrics, best_step = validations.up_to(evaluated_step)
    parts: dict[str, EvaluationResult] = {}
    on_validation = None
    for part in ("val", "test") if config["test"] else ("val",):
        table = predict_in_training(trainer, built.classifier, built.datamodule, part)
        if trainer.is_global_zero:
            with Stage(f"evaluating the {PARTS[part]} part"):
                parts[part] = evaluate(table, config, on_validation)
                on_validation = on_validation or fit_posthoc_models(table, config)
    if run is not None and config["tracking"]["log_images"]:
        shown: EvaluatedPart = "test" if config["test"] else "val"
        log_gallery(run, shown, parts[shown].whole, built.datamodule)
    pruned = pruning is not None and pruning.stopped
    return _Trained(best_metrics, best_step, parts, on_validation, best, last, pruned, trainer.precision)


def _finish(job: Job, split: SplitData, run: TrackedRun, trained: _Trained, network: Backbone) -> JobResult:
    assert "val" in trained.parts, "the process that keeps the run has evaluated it: it is the first of all ranks"
    with Stage("saving results, figures and the network"):
        for part, evaluated in trained.parts.items():
            log_evaluation(run, part, evaluated)  # type: ignore[arg-type]
        if trained.evaluation is not None:
            log_posthoc_models(run, trained.evaluation)
        results = final_results(trained.best_epoch, trained.parts.get("test"))
        logged = only_metrics(results)
        of_best = {name: value for name, value in logged.items() if name.startswith("best/")}
        run.log_metrics(of_best, trained.best_step)
        # MLflow draws a bar for a value at step 0, and a curve of a single point for one at a later step
        run.log_metrics({name: value for name, value in logged.items() if name not in of_best}, 0)
        _save_network(job, run, trained, network)
        keep_profile(run, run.live_dir)
    if trained.pruned:
        run.set_tags({"pruned": True})
    if "test" in trained.parts and READS_TAG not in run.tags_at_start:
        earlier = count_test_set_reads(run.store, split.loaded.data, split.split_hash)
        run.set_tags({READS_TAG: earlier + 1})
    run.set_tags(score_tags(results, split.leaky))
    shown: EvaluatedPart = "test" if "test" in trained.parts else "val"
    run.set_tags(describe_run(run, job.config, split, job_choices(job), results, shown))
    for part, evaluated in trained.parts.items():
        log.info("%s: %s", part, _in_words(evaluated))
        if evaluated.note:
            log.info("%s: %s", part, evaluated.note)
        for text in evaluated.warnings:
            log.warning("warning: %s: %s", part, text)
    if shown in trained.parts:
        log.info("for comparison: %s", majority_baseline(trained.parts[shown].table))
    with Stage("sending the results to the store of runs", background=True):
        run.finish("FINISHED")
    run.clear_live_dir()  # the checkpoints are in the store now, or in the spool
    return JobResult(run.run_id, results, str(run.live_dir), trained.pruned)


def _save_network(job: Job, run: TrackedRun, trained: _Trained, network: Backbone) -> None:
    """Saves the best and the last checkpoint with the run, and the model if the config asks for it."""
    if trained.last.is_file():
        with run.new_file(artifacts.checkpoint("last")) as path:
            torch.save(portable(read_checkpoint(trained.last)), path)
    if trained.best is None:
        return
    calibrators = {} if trained.evaluation is None else trained.evaluation.calibrators
    content = keep_checkpoint(run, trained.best, job.config, calibrators, trained.precision)
    run.set_tags({"weights_hash": state_hash(content["state_dict"])})
    if job.config["tracking"]["log_model"]:
        keep_model(run, network, content)


def _in_words(evaluated: EvaluationResult) -> str:
    """The headline results of a part in words; the watched metric has its interval."""
    low, high = evaluated.intervals[WATCHED]
    ends = {WATCHED: f" (95% interval {low:.3f} to {high:.3f})"}
    found = {name: evaluated.metrics[name] for name in shown_in("headline") if name in evaluated.metrics}
    return ", ".join(f"{short_of(name)} {value:.3f}{ends.get(name, '')}" for name, value in found.items())


def _train_in_processes(job: Job, context: RunContext) -> JobResult:
    """Trains in a new process, which reads the job from a file; Lightning starts the other ranks by its command."""
    with tempfile.TemporaryDirectory(prefix="lesion_exp_job_") as folder:
        job_path, context_path, result_path = (
            Path(folder) / name for name in ("job.yaml", "context.json", "result.json")
        )
        job.write(job_path)
        context.write(context_path)
        try:
            with Stage("waiting for the processes of the run", background=True):
                code = run_module("lesion_exp.training.rank", *map(str, (job_path, context_path, result_path)))
        except (KeyboardInterrupt, SystemExit) as error:
            error.add_note(_stopped_elsewhere())
            raise
        if not result_path.is_file():
            raise RuntimeError(f"a process of the run ended with code {code}; its messages are above")
        result = json.loads(result_path.read_text(encoding="utf-8"))
    if "user_error" in result:
        raise UserError(result["user_error"])
    if "error" in result:
        raise RuntimeError(result["error"])
    return JobResult(**result)


def _stopped_elsewhere() -> str:
    """What is true of a run that another process trains when this one is stopped."""
    return (
        f"a run that had begun is marked KILLED, and {next_command('resume', 'run=latest')} continues it; if no "
        f"message above names a run, none has begun"
    )


def write_result(path: Path, result: JobResult) -> None:
    """Writes `result` to the file that the waiting process reads."""
    path.write_text(json.dumps(asdict(result)), encoding="utf-8")
