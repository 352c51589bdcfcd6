"""The verb `resume`: continues a run that stopped, as the same run in MLflow, or extends a run as a new one."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch

from lesion_exp.config.freeze import Job, job_hash
from lesion_exp.config.instantiate import resolve_target
from lesion_exp.config.own_code import code_digests, code_tags, states_so_far, warn_of_other_code
from lesion_exp.config.project import Project
from lesion_exp.config.registered import TARGET
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.loss.base import Loss, trial_value
from lesion_exp.model.checkpoint_file import read_checkpoint
from lesion_exp.model.classifier import make_loss, make_optimizer, make_schedule, remembers, solves_exactly
from lesion_exp.next_command import next_command
from lesion_exp.scheduler.schedule import ENDLESS, TrainingLength
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.environment import OWN_CODE
from lesion_exp.tracking.stored_run import Run, download_artifact, read_stored_json
from lesion_exp.trained_runs.finished_run import check_unfinished, with_keys
from lesion_exp.trained_runs.trained_run import check_trains, trained_run
from lesion_exp.training.check_training import training_length
from lesion_exp.training.checkpoint import (
    LAST,
    begun_devices,
    best_file_name,
    found_by_tuners,
    newest_checkpoint,
    resume_context,
)
from lesion_exp.training.data import SplitData, is_pretraining, load_data, split_data
from lesion_exp.training.layout import FINDERS, as_begun, with_found
from lesion_exp.training.run import train
from lesion_exp.training.run_context import JobResult, RunContext
from lesion_exp.training.tracked import check_same_data
from lesion_exp.training.trainer import num_devices_and_nodes

EXTENDS_TAG: Final = "extends"
"""Tag of an extended run with the id of the run whose last checkpoint it continues."""


def resume(
    run: Run,
    project: Project,
    places: Mapping[str, Path] = MappingProxyType({}),
    num_processes: int | None = None,
) -> JobResult:
    """Trains the rest of `run` and evaluates it.

    Without a checkpoint, training starts at the first step. On a CPU, and with as many processes as before, the final
    weights are bit for bit those of a run that was never stopped. With another number of processes each step has the
    same images, and the weights agree to rounding at best, see `lesion_exp.training.layout`.

    Args:
        run: a run that stopped.
        project: of this machine.
        places: where files of the run are now that have moved, by the keys of its job, see `MovedTraining`.
        num_processes: processes of this machine, among which the batches of the job are dealt anew; None: as many as
            the job asks for, or as torchrun or srun have started.

    Raises:
        ConfigError: the run has finished, is still running, or trains nothing; or its steps cannot be dealt to so many
            processes, or a starter began another number of them.
        DataError: its data have changed.
        PeerLost: another process was lost.
    """
    check_trains(run)
    check_unfinished(run)
    job = trained_run(run, project, places).frozen_job("its training to go on")
    processes = None if num_processes is None else (num_processes, 1)
    return train(job, replace(resume_context(run), processes=processes))


def extend(
    run: Run, changes: Mapping[str, int], project: Project, places: Mapping[str, Path] = MappingProxyType({})
) -> JobResult:
    """Continues the training of `run` as a new run with the tag `extends`, until the epochs or steps in `changes`.

    On a CPU the final weights are bit for bit those of a run that had this length from the start.

    Raises:
        ConfigError: the run is still running or has no checkpoint, the training would not become longer, or the first
            steps of the longer training would have been different; the message says why.
        DataError: its data have changed, or a checkpoint is missing.
    """
    check_trains(run)
    if run.status == "RUNNING":
        raise ConfigError(f"expected a run that has ended, but {run.run_id} is RUNNING; wait for its end")
    old = with_found_values(trained_run(run, project, places).frozen_job("its training to go on"), run)
    _check_devices(old, run)
    new = with_length(old, changes)
    trained = _trained(run)
    split = split_data(new.config, load_data(new.config))
    check_same_data(run, split)
    warn_of_other_code(run, new.config)
    lengths = (training_length(old.config, split), training_length(new.config, split))
    reason = reason_against(old, new, split, lengths, trained, pruned=run.tags.get("pruned") == "true")
    if reason is not None:
        raise ConfigError(
            f"expected a run that can continue as if {_text(changes)} had been set from the start, but {reason}; to "
            f"train from the start: {new.command}"
        )
    return train(new, _context(run, new, _text(changes), trained))


def _context(run: Run, job: Job, changes: str, trained: Trained) -> RunContext:
    """Returns the context of `job`, which goes on from `run`, with all states of the user's code that trained it."""
    before = read_stored_json(run, artifacts.environment(OWN_CODE)) or {}
    now = code_digests(job.config)
    return RunContext(
        tags={EXTENDS_TAG: run.run_id, **states_so_far(run.tags, code_tags(job.config))},
        own_code={**before, **now, **states_so_far(before, now)},
        name=f"{run.name} to {changes}",
        checkpoint=str(trained.checkpoint),
        best=None if trained.best is None else str(trained.best),
    )


def _check_devices(job: Job, run: Run) -> None:
    """Refuses an extension on other devices than the run had where the job leaves their number open."""
    begun = begun_devices(run)
    if as_begun(job.config, RunContext(begun_devices=begun)) != job.config:
        raise ConfigError(
            f"expected the {begun} devices on which run {run.run_id} began with "
            f"trainer.devices={job.config['trainer']['devices']}, since on others each step has other images, got "
            f"{num_devices_and_nodes(job.config['trainer'])[0]} here; extend it where torch sees as many, see "
            f"CUDA_VISIBLE_DEVICES, or train from the start: {job.command}"
        )


@dataclass(frozen=True)
class Trained:
    """The state of the training of a run."""

    checkpoint: Path
    best: Path | None
    steps: int
    epochs: int
    """Number of completed epochs."""
    has_ended: bool
    """Whether its training ended by itself and was not stopped."""


def with_length(job: Job, changes: Mapping[str, int]) -> Job:
    """`job` with the new values of the keys that limit its training, and the new hash."""
    config = copy.deepcopy(job.config)
    for key, value in changes.items():
        config["trainer"][key.removeprefix("trainer.")] = value
    overrides = with_keys(job.overrides, changes)
    return replace(job, config=config, overrides=overrides, job_hash=job_hash(config, job.files))


def with_found_values(job: Job, run: Run) -> Job:
    """`job` with the values that Lightning's tuners found in `run`, so that they do not run again."""
    config, overrides = dict(with_found(job.config, found_by_tuners(run))), job.overrides
    for finder, node, name in FINDERS:
        if config["trainer"][finder] != job.config["trainer"][finder]:
            overrides = (*overrides, f"trainer.{finder}=false", f"{node}.{name}={config[node][name]}")
    return replace(job, config=config, overrides=overrides)


def reason_against(
    old: Job,
    new: Job,
    split: SplitData,
    lengths: tuple[TrainingLength, TrainingLength],
    trained: Trained,
    *,
    pruned: bool,
) -> str | None:
    """Why the first steps of the longer training would have been different; None if they would not."""
    before, after = lengths
    config = old.config
    if after.total_steps <= before.total_steps:
        values = {"max_epochs": after.max_epochs, "max_steps": after.max_steps}
        limits = " and ".join(f"trainer.{key}={value}" for key, value in values.items() if value != ENDLESS)
        return f"its training would not become longer: {_end(before)} now, {_end(after)} with it (limited by {limits})"
    if config["trainer"].get("max_time") is not None:
        return f"it is limited by trainer.max_time={config['trainer']['max_time']}, and the time cannot be extended"
    ended_early = trained.has_ended and trained.steps < before.total_steps and not pruned
    if ended_early and config["trainer"]["early_stopping"]["patience"] is not None:
        return (
            f"early stopping ended it after epoch {trained.epochs}, and would have ended the longer training there, too"
        )
    if is_pretraining(config):
        reason = _pretraining_differs(old, is_complete=trained.epochs >= before.num_epochs)
        return reason or _schedule_differs(old, new, lengths, trained.steps)
    return _schedule_differs(old, new, lengths, trained.steps) or _loss_differs(old, split, lengths, trained.epochs)


def _pretraining_differs(job: Job, *, is_complete: bool) -> str | None:
    node, num_epochs = job.config["pretrain"], job.config["trainer"]["max_epochs"]
    method = resolve_target(node[TARGET], "pretrain")
    if getattr(method, "follows_length", False):
        return f"the momentum of pretrain={job.options['pretrain']} rises over the whole length of the training"
    if is_complete and num_epochs % int(node["probe_every"]):
        return (
            f"its last epoch, {num_epochs}, was probed, which pretrain.probe_every={node['probe_every']} would not do"
        )
    return None


def _schedule_differs(old: Job, new: Job, lengths: tuple[TrainingLength, TrainingLength], num_steps: int) -> str | None:
    if remembers(old.config["backbone"]):
        return "backbone.head=knn stores all training images in one epoch, so another epoch would change nothing"
    if solves_exactly(old.config["optimizer"]):
        return (
            f"optimizer=logistic_path spreads its strengths over all epochs, so that its {num_steps} steps had other "
            f"strengths than those of a training of {_end(lengths[1])}: start a new run"
        )
    with warnings.catch_warnings():  # torch warns of missing optimizer steps, and a warm-up of its length
        warnings.simplefilter("ignore")
        runs = [_rates(job.config, length, num_steps) for job, length in zip((old, new), lengths, strict=True)]
    if runs[0] == runs[1]:
        return None
    return (
        f"scheduler={old.options['scheduler']} depends on the length of the training, so that its {num_steps:,} "
        f"steps had other learning rates than in a training of {_end(lengths[1])} (scheduler=constant, step and "
        f"plateau can be continued)"
    )


def _rates(config: Mapping[str, Any], length: TrainingLength, num_steps: int) -> list[tuple[float, ...]]:
    """Learning rate and momentum of the first `num_steps` steps, without the influence of metrics."""
    weights = [{"params": [torch.nn.Parameter(torch.zeros(1, 1))]}]
    optimizer = make_optimizer(config["optimizer"], fuse=False)(weights, float(config["optimizer"]["lr"]))
    optimizer.param_groups[0]["initial_lr"] = optimizer.param_groups[0]["lr"]
    schedule = make_schedule(config["scheduler"])(optimizer, length.total_steps, length.steps_per_epoch)
    found: list[tuple[float, ...]] = []
    for _ in range(num_steps):
        group = optimizer.param_groups[0]
        momentum = group.get("momentum", (group.get("betas") or (0.0,))[0])
        found.append((float(group["lr"]), float(momentum)))
        if schedule.interval == "step" and len(found) < num_steps:
            schedule.scheduler.step()  # type: ignore[call-arg]
    return found


def _loss_differs(
    job: Job, split: SplitData, lengths: tuple[TrainingLength, TrainingLength], num_epochs: int
) -> str | None:
    counts = split.table.loc[split.table["split"] == "train", "label"].value_counts()
    class_counts = [int(counts.get(name, 0)) for name in split.classes]
    losses = [make_loss(job.config["loss"], class_counts) for _ in lengths]
    for epoch in range(num_epochs):
        states = []
        for loss, length in zip(losses, lengths, strict=True):
            loss.set_epoch(epoch, length.num_epochs)
            states.append((_settings(loss), str(trial_value(loss))))  # as a text, NaN equals NaN
        if states[0] != states[1]:
            return (
                f"loss={job.options['loss']} changes after a share of the epochs, and changed in epoch {epoch + 1} of "
                f"{lengths[0].num_epochs}, where it would be different in a training of {lengths[1].num_epochs}"
            )
    return None


def _settings(loss: Loss) -> dict[tuple[str, str], bool | int | float]:
    """The numbers and truth values of `loss`, and of the loss of the labels inside a distillation."""
    return {
        (place, name): kept
        for place, part in loss.named_modules()
        for name, kept in vars(part).items()
        if isinstance(kept, bool | int | float)
    }


def _trained(run: Run) -> Trained:
    live = newest_checkpoint(run.live_dir)
    try:
        checkpoint = live or Path(download_artifact(run, artifacts.checkpoint("last")))
    except (DataError, ConfigError, OSError) as error:
        raise DataError(
            f"expected the last checkpoint of run {run.run_id} (checkpoints/{LAST}), but neither its live folder nor "
            f"its artifacts have it; {next_command('reproduce', f'run={run.run_id}')} trains it again"
        ) from error
    content = read_checkpoint(checkpoint)
    epochs = content["loops"]["fit_loop"]["epoch_progress"]["total"]
    batches = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    is_between = epochs["completed"] == epochs["ready"]
    if is_between and batches["current"]["ready"] and not batches["is_last_batch"]:
        raise ConfigError(
            f"expected a run whose training ended with an epoch, but that of {run.run_id} ended inside epoch "
            f"{epochs['ready']} (by trainer.max_steps or trainer.max_time): the rest of that epoch cannot be trained "
            f"later; start a new run with lesion-exp train"
        )
    _check_average(run, content)
    has_ended = is_between and bool(batches["is_last_batch"])
    return Trained(checkpoint, _best(run, content, live), content["global_step"], epochs["completed"], has_ended)


def _check_average(run: Run, content: Mapping[str, Any]) -> None:
    trained = content.get("current_model_state")
    if trained is None or "averaging_state" not in content:
        return
    if all(torch.equal(trained[name], average) for name, average in content["state_dict"].items()):
        raise ConfigError(
            f"expected the last weights of run {run.run_id} beside their average (trainer.ema_decay), but an earlier "
            f"version saved only the average; start a new run with lesion-exp train"
        )


def _best(run: Run, content: Mapping[str, Any], live: Path | None) -> Path | None:
    """The checkpoint of the best epoch so far; None before the first validation."""
    name = best_file_name(content)
    if name is None:
        return None
    if live is not None and (live.parent / name).is_file():
        return live.parent / name
    return Path(download_artifact(run, artifacts.checkpoint()))


def _end(length: TrainingLength) -> str:
    if length.num_epochs == ENDLESS:
        return "endless"
    return f"{length.num_epochs} epoch{'s' if length.num_epochs != 1 else ''}"


def _text(changes: Mapping[str, int]) -> str:
    return " ".join(f"{key}={value}" for key, value in changes.items())
