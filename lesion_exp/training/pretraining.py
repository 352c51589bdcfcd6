"""Runs a job of self-supervised pretraining: fits, keeps the body's weights, and logs everything."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pytorch_lightning.callbacks import Callback

from lesion_exp.config.freeze import Job
from lesion_exp.config.project import Project
from lesion_exp.evaluation.registry import PROBE_METRIC, PROBED, only_metrics, short_of
from lesion_exp.model.checkpoint_file import CARD_KEY, portable, read_checkpoint, state_hash, write_weights
from lesion_exp.process.signals import preserve_stop_signals
from lesion_exp.progress import Stage
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.lightning_logger import TrackingLogger
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_description import description
from lesion_exp.tracking.stored_run import PRETRAINING, PRETRAINING_TAG
from lesion_exp.training.build_pretraining import BuiltPretraining, build_pretraining
from lesion_exp.training.callbacks import PruningCallback, TrainingProgress, Validations
from lesion_exp.training.check_pretraining import check_pretraining, trainer_node
from lesion_exp.training.checkpoint import LAST, copy_best_checkpoint
from lesion_exp.training.data import SplitData, load_data, split_data
from lesion_exp.training.results import end_in_words, log_inputs
from lesion_exp.training.run_context import RunContext
from lesion_exp.training.seen_before import Inherited, log_inherited, with_inherited
from lesion_exp.training.tracked import INPUTS_TAG, job_choices, log_hint, start_run
from lesion_exp.training.trainer import best_checkpoint, build_trainer, describe_resolved, keep_profile

log = logging.getLogger(__name__)

SAFETENSORS: Final = artifacts.checkpoint("best", ".safetensors")
_METHOD: Final = "method."
_BODY: Final = "backbone."
_TEACHER: Final = f"{_METHOD}teacher."


@dataclass(frozen=True)
class PretrainingResult:
    """The results of a finished pretraining."""

    run_id: str
    metrics: dict[str, float]
    live_dir: str
    pruned: bool


@dataclass(frozen=True)
class _Fitted:
    best_epoch: Mapping[str, float]
    best_step: int
    best: Path
    last: Path
    pruned: bool


def run_pretraining(job: Job, context: RunContext) -> PretrainingResult:
    """Runs the pretraining `job` in this process, which may be one rank of several."""
    config = job.config
    is_first = os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"
    store = Project.from_config(config).store if is_first else None
    split, found = with_inherited(config, split_data(config, load_data(config)))
    warnings = check_pretraining(config, split)
    for text in warnings:
        log.warning("warning: %s", text)
    for line in split.audit.summary().splitlines():
        log.info("%s", line)
    with Stage("preparing the network"):
        built = build_pretraining(config, split)
    if store is None:
        with tempfile.TemporaryDirectory(prefix="lesion_exp_rank_") as folder:
            _fit(config, built, None, Path(folder), context)
        return PretrainingResult("", {}, "", False)
    with start_run(store, job, split, kind=PRETRAINING, context=context) as run, log_hint(run), preserve_stop_signals():
        _log_start(run, job, split, built, found, warnings)
        built.task.sign(run.run_id)
        fitted = _fit(config, built, run, run.live_dir, context)
        return _finish(job, split, run, fitted, built)


def _log_start(
    run: TrackedRun,
    job: Job,
    split: SplitData,
    built: BuiltPretraining,
    found: Inherited | None,
    warnings: list[str],
) -> None:
    config, method = job.config, job.options["pretrain"]
    run.write_log("\n".join([split.audit.summary(), *(f"warning: {text}" for text in warnings)]))
    num_weights = sum(weights.numel() for weights in built.task.backbone.parameters())
    run.log_params({"resolved": {**describe_resolved(config["trainer"]), "parameters": num_weights}})
    run.set_tags({PRETRAINING_TAG: method})
    watched = f"the highest {PROBE_METRIC}" if built.datamodule.has_probe else "the last epoch (there is no probe)"
    log.info("pretraining by %s on %d images; the weights that are kept: %s", method, _num_seen(built), watched)
    if INPUTS_TAG not in run.tags_at_start:
        with Stage("logging the split, the environment and examples"):
            log_inputs(run, config, split, built.datamodule)
            log_inherited(run, found)
        run.set_tags({INPUTS_TAG: "logged"})


def _num_seen(built: BuiltPretraining) -> int:
    return len(built.datamodule.parts["train"])


def _fit(
    config: Mapping[str, Any], built: BuiltPretraining, run: TrackedRun | None, live_dir: Path, context: RunContext
) -> _Fitted:
    validations = Validations()
    callbacks: list[Callback] = [TrainingProgress(PROBE_METRIC), validations]
    pruning = None if context.pruning_dir is None else PruningCallback(Path(context.pruning_dir))
    callbacks += [pruning] if pruning else []
    watched = PROBE_METRIC if built.datamodule.has_probe else None
    logger = TrackingLogger(run, live_dir)
    trainer = build_trainer(trainer_node(config, built.datamodule), logger, live_dir, callbacks, watched)
    if run is not None and watched and context.best is not None and context.checkpoint is not None:
        copy_best_checkpoint(Path(context.best), Path(context.checkpoint), live_dir)
    trainer.fit(built.task, datamodule=built.datamodule, ckpt_path=context.checkpoint, weights_only=True)
    last = live_dir / LAST
    best = (best_checkpoint(trainer, last) if watched else None) or last
    step = trainer.global_step
    if trainer.is_global_zero:
        step = int(read_checkpoint(best)["global_step"])
    metrics, best_step = validations.up_to(step)
    return _Fitted(metrics, best_step, best, last, pruning is not None and pruning.stopped)


def _finish(job: Job, split: SplitData, run: TrackedRun, fitted: _Fitted, built: BuiltPretraining) -> PretrainingResult:
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
    log.info("a classifier starts from these weights: lesion-exp train backbone.weights=run:%s", run.run_id)
    run.finish("FINISHED")
    run.clear_live_dir()
    return PretrainingResult(run.run_id, results, str(run.live_dir), fitted.pruned)


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
