"""The trainings of the leak meter as cells of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lesion_exp.choices import WAYS_TO_SPLIT
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.instantiate import instantiate
from lesion_exp.data.batches import TrainingBatches
from lesion_exp.errors import ConfigError
from lesion_exp.sweeps.ledger import Sweep, find_sweep, sweeps_in
from lesion_exp.sweeps.plan import SweepPlan, check_cell, plan_sweep
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.trainer import num_processes

if TYPE_CHECKING:
    from lesion_exp.sweeps.plan import SweepPlan

KEY: Final = "split.way"
"""In which the cells of a leak meter differ."""
BUDGET: Final = "trainer.limit_train_batches"
"""The key that makes their budgets equal."""


def same_meter(folder: Path, plan: SweepPlan) -> Sweep | None:
    """The newest sweep in `folder` that has the very cells of `plan`, the same kind of launcher and the same store."""
    wanted = [job.job_hash for job, _ in plan.cells]
    for sweep in reversed(sweeps_in(folder)):
        facts = sweep.facts
        is_here = facts.store["tracking"]["uri"] == plan.facts.store["tracking"]["uri"]
        is_here &= facts.launcher["_target_"] == plan.facts.launcher["_target_"]
        if is_here and is_meter(sweep) and [cell.facts()[1] for cell in sweep.cells()] == wanted:
            return sweep
    return None


def is_meter(sweep: Sweep) -> bool:
    """Whether a sweep is one that `plan_meter` planned."""
    has_budget = any(text.startswith(f"{BUDGET}=") for text in sweep.facts.fixed)
    return sweep.facts.keys == (KEY,) and has_budget and "test=true" in sweep.facts.fixed


def find_meter(folder: Path, spec: str) -> Sweep:
    """The leak meter in `folder` that `spec` names, as `find_sweep`.

    Raises:
        ConfigError: no sweep, several, or one that is no leak meter, are named so.
    """
    sweep = find_sweep(folder, spec)
    if not is_meter(sweep):
        raise ConfigError(
            f"expected a leak meter, got {sweep.facts.sweep_id}, a sweep of {', '.join(sweep.facts.keys)}; lesion-exp "
            f"leakage makes one"
        )
    return sweep


_CHOSEN_HERE: Final = (
    ("split", "the meter trains split.way=grouped, by_image and resample_then_split in turn"),
    (KEY, "the meter trains all three in turn"),
    ("split.allow_leakage", "the meter allows it where it is measured"),
    ("test", "the meter tests every training"),
    ("search", "the three trainings of the meter are fixed"),
)
"""Keys that the meter sets itself, and why."""
_UNEQUAL: Final = (
    ("early_stopping.patience", "each training would end after a time of its own"),
    ("find_batch_size", "each training would find a size of its own"),
    ("find_lr", "each training would find a rate of its own"),
    ("max_time", "trainings of the same time differ in their steps"),
)
"""Keys of `trainer` with which budgets would not be equal, and why."""


def plan_meter(
    overrides: Sequence[str], *, config_dirs: Sequence[Path] = (), root: Path, force: bool = False
) -> SweepPlan:
    """The sweep of the leak meter for the config that `overrides` describe.

    A clean part is held out by groups first (`split.held_out`); each training splits the rest its own way into train,
    validation and a test part of its own. A lesion of the test part of `grouped` could otherwise be in the training
    part of another way, and no part would be clean for all. Every training takes the same number of optimiser steps
    with batches of the same size: an epoch is as many batches as fill the smallest of the training parts, drawn anew
    from the larger ones in every epoch. `grouped` is trained the same way and is the control: its inflation
    is chance.

    Raises:
        ConfigError: keys that the meter sets itself, or with which budgets would differ; what `plan_sweep` refuses.
        DataError: data that cannot be used.
    """
    for key, reason in _CHOSEN_HERE:
        said = next((text for text in overrides if text.lstrip("+~").partition("=")[0] == key), None)
        if said is not None:
            raise ConfigError(f"expected no {key}= in the leak meter, got {said}: {reason}; leave it out")
    fixed = [*overrides, "split=held_out", "split.allow_leakage=true", "test=true"]
    composed = compose(fixed, config_dirs=config_dirs, root=root, in_sweep=True)
    config = composed.config
    _check_budget(config["trainer"])
    check_cell(freeze(composed), (), composed.launcher)  # mistakes that need no data to be seen
    batches = _batches_of_all(config)
    plan = plan_sweep(
        [*fixed, f"{BUDGET}={batches}", f"{KEY}={','.join(WAYS_TO_SPLIT)}"],
        config_dirs=config_dirs,
        root=root,
        force=force,
    )
    assert plan is not None, "the ways are several values"
    if plan.facts.keys != (KEY,):
        further = ", ".join(key for key in plan.facts.keys if key != KEY)
        raise ConfigError(f"expected one config for the leak meter, got several values of {further}; choose one")
    return plan


def _check_budget(trainer: Mapping[str, Any]) -> None:
    for key, reason in _UNEQUAL:
        node: Any = trainer
        for name in key.split("."):
            node = node.get(name) if isinstance(node, Mapping) else None
        if node:
            raise ConfigError(
                f"expected trainings of equal budgets for the leak meter, got trainer.{key}={node}: {reason}; leave it "
                f"out"
            )


def _batches_of_all(config: Mapping[str, Any]) -> int:
    """The batches an epoch (on each device) that every way can fill, at most as many as the config asks for."""
    loaded = load_data(config)
    sampler, num_ranks = instantiate(config["sampler"], "sampler"), num_processes(config["trainer"])
    found = []
    for way in WAYS_TO_SPLIT:
        split = split_data({**config, "split": {**config["split"], "way": way}}, loaded).table
        rows = split[split["split"] == "train"].reset_index(drop=True)
        size, seed = int(config["loader"]["batch_size"]), int(config["seed"])
        found.append(len(TrainingBatches(sampler, rows, size, seed, (0, num_ranks), progress=lambda: (0, 0))))
    asked = config["trainer"]["limit_train_batches"]
    if asked is None:
        return min(found)
    return min(*found, asked) if isinstance(asked, int) else max(1, int(min(found) * asked))
