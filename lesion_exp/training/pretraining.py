"""Runs a job of self-supervised pretraining: fits, keeps the body's weights, and logs everything."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pytorch_lightning.callbacks import Callback

from lesion_exp.config.command_words import place_words
from lesion_exp.config.freeze import Job
from lesion_exp.evaluation.registry import PROBED, only_metrics, short_of
from lesion_exp.model.checkpoint_file import CARD_KEY, portable, read_checkpoint, state_hash, write_weights
from lesion_exp.next_command import next_command
from lesion_exp.process.other_programs import OtherPrograms
from lesion_exp.process.peers import Peers
from lesion_exp.progress import Stage
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.lightning_logger import TrackingLogger
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_description import description
from lesion_exp.tracking.stored_run import PRETRAINING_TAG
from lesion_exp.training.build_pretraining import BuiltPretraining, build_pretraining
from lesion_exp.training.callbacks import PruningCallback, TrainingProgress, Validations
from lesion_exp.training.check_pretraining import check_pretraining, trainer_node
from lesion_exp.training.checkpoint import LAST, copy_best_checkpoint
from lesion_exp.training.data import SplitData, load_data, split_data
from lesion_exp.training.results import end_in_words
from lesion_exp.training.run_context import JobResult, RunContext
from lesion_exp.training.seen_before import with_inherited
from lesion_exp.training.started_run import beside_others, say_findings, started_run, store_of_first_rank
from lesion_exp.training.together import once_a_node, prepare_layout, watched
from lesion_exp.training.tracked import job_choices
from lesion_exp.training.trainer import best_checkpoint, build_trainer, keep_profile
from lesion_exp.training.watched_metrics import watched_by

log = logging.getLogger(__name__)

SAFETENSORS: Final = artifacts.checkpoint("best", ".safetensors")
_METHOD: Final = "method."
_BODY: Final = "backbone."
_TEACHER: Final = f"{_METHOD}teacher."


@dataclass(frozen=True)
class _Fitted:
    best_epoch: Mapping[str, float]
    best_step: int
    best: Path
    last: Path
    pruned: bool


def run_pretraining(
    job: Job,
    context: RunContext,
    configs: tuple[Mapping[str, Any], Mapping[str, Any]],
    others: OtherPrograms,
    peers: Peers | None = None,
) -> JobResult:
    """Runs the pretraining `job` in this process, which may be one rank of several.

    Args:
        job: the job of the run.
        context: what the caller adds to the run.
        configs: that of the processes that the job asks for, see `as_begun`, and that of the processes of the run, see
            `on_processes`.
        others: the other programs of this machine since the job began.
        peers: the processes that a starter began.
    """
    asked, config = configs
    store = store_of_first_rank(config)
    with Stage("reading the data", background=True):
        split, inherited = once_a_node(peers, lambda: split_data(config, load_data(config))), None
    with Stage("checking what the run begins with", background=True):
        if store is not None or peers is None:  # other machines may not see the runs
            split, inherited = with_inherited(config, split)
        warnings = [*check_pretraining(config, split), *beside_others(config["trainer"], others)]
        findings = say_findings(split, inherited, warnings)
    with Stage("preparing the network"):
        built = build_pretraining(config, split)
    prepare_layout(asked, config, built.task, built.datamodule)
    with (
        started_run(store, job, context, findings, built.task, built.datamodule) as (run, live_dir),
        watched(peers, run),
    ):
        if run is not None:
            _say_what_is_kept(run, job.options["pretrain"], config["trainer"]["monitor"], built)
        fitted = _fit(config, built, run, live_dir, context)
        return JobResult("") if run is None else _finish(job, split, run, fitted, built)


def _say_what_is_kept(run: TrackedRun, method: str, monitor: str, built: BuiltPretraining) -> None:
    run.set_tags({PRETRAINING_TAG: method})
    epoch = f"the epoch with the highest {monitor}" if built.datamodule.has_probe else "the last epoch, without a probe"
    log.info("pretraining by %s on %d images; the run keeps the weights of %s", method, _num_seen(built), epoch)


def _num_seen(built: BuiltPretraining) -> int:
    return len(built.datamodule.parts["train"])


def _fit(
    config: Mapping[str, Any], built: BuiltPretraining, run: TrackedRun | None, live_dir: Path, context: RunContext
) -> _Fitted:
    validations = Validations()
    callbacks: list[Callback] = [TrainingProgress(watched_by(config)), validations]
    pruning = None if context.pruning_dir is None else PruningCallback(Path(context.pruning_dir))
    callbacks += [pruning] if pruning else []
    watched_metric = watched_by(config) if built.datamodule.has_probe else None
    logger = TrackingLogger(run, live_dir)
    trainer = build_trainer(trainer_node(config, built.datamodule), logger, live_dir, callbacks, watched_metric)
    if run is not None and watched_metric and context.best is not None and context.checkpoint is not None:
        copy_best_checkpoint(Path(context.best), Path(context.checkpoint), live_dir)
    with Stage("pretraining", background=True):
        trainer.fit(built.task, datamodule=built.datamodule, ckpt_path=context.checkpoint, weights_only=True)
    last = live_dir / LAST
    best = (best_checkpoint(trainer, last) if watched_metric and trainer.is_global_zero else None) or last
    step = trainer.global_step
    if trainer.is_global_zero:
        step = int(read_checkpoint(best)["global_step"])
    metrics, best_step = validations.up_to(step)
    return _Fitted(metrics, best_step, best, last, pruning is not None and pruning.stopped)


def _finish(job: Job, split: SplitData, run: TrackedRun, fitted: _Fitted, built: BuiltPretraining) -> JobResult:
    with Stage("saving the weights"):
        results = {f"best/{name}": value for name, value in fitted.best_epoch.items()}
        run.log_metrics(only_metrics(results), fitted.best_step)
        content = _encoder_of(read_checkpoint(fitted.best))
        content[CARD_KEY] = {**content[CARD_KEY], "run_id": run.run_id, PRETRAINING_TAG: job.options["pretrain"]}
        with run.new_file(artifacts.checkpoint("last")) as path:
            torch.save(portable(read_checkpoint(fitted.last)), path)
        with run.new_file(artifacts.checkpoint("best")) as path:
            torch.save(content, path)
        if job.config["tracking"]["log_model"]:
            with run.new_file(SAFETENSORS) as path:
                write_weights(path, content["state_dict"], content[CARD_KEY])
        keep_profile(run, run.live_dir)
    run.set_tags({"weights_hash": state_hash(content["state_dict"]), **({"pruned": True} if fitted.pruned else {})})
    run.set_tags(_described(job, split, results, built))
    words = ", ".join(
        f"{short_of(name)} {results[f'best/val/{name}']:.3f}" for name in PROBED if f"best/val/{name}" in results
    )
    log.info("%s", f"val: {words}" if words else "the weights of the last epoch are kept")
    place = place_words(job.overrides, job.config)
    command = next_command("train", f"backbone.weights=run:{run.run_id}", *place)
    log.info("%s trains a classifier from these weights", command)
    with Stage("sending the results to the store of runs", background=True):
        run.finish("FINISHED")
    run.clear_live_dir()
    return JobResult(run.run_id, results, str(run.live_dir), fitted.pruned)


def _encoder_of(content: dict[str, Any]) -> dict[str, Any]:
    """The weights of the body in the checkpoint `content`, those of the teacher where the method has one, and its card.

    A file that has them alone is given back as it is.
    """
    state = content["state_dict"]
    body = {name: tensor for name, tensor in state.items() if name.startswith(_BODY)}
    teacher = {
        f"{_BODY}body.{name.removeprefix(_TEACHER)}": value
        for name, value in state.items()
        if name.startswith(_TEACHER)
    }
    kept = {key: content[key] for key in ("epoch", "global_step", CARD_KEY)}
    return {**kept, "state_dict": {**body, **teacher}}


def _described(job: Job, split: SplitData, results: Mapping[str, float], built: BuiltPretraining) -> dict[str, str]:
    config, choices = job.config, job_choices(job)
    title = (
        f"{job.options['pretrain']} pretrains {choices['backbone']} on {_num_seen(built):,} images of "
        f"{choices['dataset']}, {config['image_size']} px, {end_in_words(config['trainer'])}, seed {config['seed']}"
    )
    counts = {
        part: {key: int(numbers[key]) for key in ("images", "lesions")} for part, numbers in split.audit.parts.items()
    }
    return description(title, counts, results, split.audit.warnings, [])
