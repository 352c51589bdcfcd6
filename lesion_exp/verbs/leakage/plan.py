"""The plan of the leak meter, whose trainings are the cells of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lesion_exp.choices import WAYS_TO_SPLIT
from lesion_exp.config import places
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.instantiate import instantiate
from lesion_exp.config.registered import check_registered
from lesion_exp.errors import ConfigError
from lesion_exp.next_command import key_of
from lesion_exp.sweeps.launcher.launcher import make_launcher
from lesion_exp.sweeps.ledger import Sweep, find_sweep, newest_first
from lesion_exp.sweeps.plan import SweepPlan, check_cell, plan_sweep

if TYPE_CHECKING:
    from lesion_exp.sweeps.plan import SweepPlan

KEY: Final = "split.way"
"""The key in which the cells of a leak meter differ."""
BUDGET: Final = "trainer.limit_train_batches"
"""The key that gives all cells the same number of optimizer steps."""


def same_meter(folder: Path, plan: SweepPlan) -> Sweep | None:
    """Returns the newest sweep in `folder` with the same cells, kind of launcher and store as `plan`; else None."""
    wanted = [job.job_hash for job, _ in plan.cells]
    for sweep in newest_first(folder):
        facts = sweep.facts
        is_here = facts.store["tracking"]["uri"] == plan.facts.store["tracking"]["uri"]
        is_here &= facts.launcher["_target_"] == plan.facts.launcher["_target_"]
        if is_here and is_meter(sweep) and [cell.facts()[1] for cell in sweep.cells()] == wanted:
            return sweep
    return None


def is_meter(sweep: Sweep) -> bool:
    """Returns whether a sweep was planned by `plan_meter`."""
    has_budget = any(text.startswith(f"{BUDGET}=") for text in sweep.facts.fixed)
    return sweep.facts.keys == (KEY,) and has_budget and "test=true" in sweep.facts.fixed


def find_meter(folder: Path, spec: str) -> Sweep:
    """Returns the leak meter in `folder` that `spec` names (see `find_sweep`).

    Raises:
        ConfigError: `spec` names no sweep, several sweeps, or a sweep that is not a leak meter.
    """
    sweep = find_sweep(folder, spec)
    if not is_meter(sweep):
        raise ConfigError(
            f"expected a leak meter, got {sweep.facts.sweep_id}, a sweep of {', '.join(sweep.facts.keys)}; start one "
            f"with lesion-exp leakage"
        )
    return sweep


_CHOSEN_HERE: Final = (
    ("split", "the leak meter trains with split.way=grouped, by_image and resample_then_split"),
    (KEY, "the leak meter trains with all three ways of splitting"),
    ("split.allow_leakage", "the leak meter sets it to true, because it measures leakage"),
    ("test", "the leak meter evaluates the test part of every training"),
    ("search", "the leak meter always has the same three trainings"),
)
"""The keys that the leak meter sets itself, and the reasons."""
_UNEQUAL: Final = (
    ("early_stopping.patience", "the trainings would end after different numbers of epochs"),
    ("find_batch_size", "the trainings would have different batch sizes"),
    ("find_lr", "the trainings would have different learning rates"),
    ("max_time", "trainings of the same duration have different numbers of steps"),
)
"""The keys of `trainer` that would make trainings unequal, and the reasons."""


def plan_meter(
    overrides: Sequence[str],
    *,
    config_dirs: Sequence[Path] = (),
    root: Path,
    force: bool = False,
    starts: bool = False,
) -> SweepPlan:
    """Returns the sweep of the leak meter for the config that `overrides` describe.

    A clean part is held out by groups first (`split.held_out`), and each training splits the rest in its own way into
    training, validation and test parts. Without this, a lesion of the test part of `grouped` could be in the training
    part of another way, and no part would be clean for all. Every training has the same number of optimizer steps with
    batches of the same size: an epoch has as many batches as the smallest training part, and from larger parts other
    images are drawn in every epoch. `grouped` is the control, whose inflation is due to chance.

    Of a leak meter that `starts` now, the launcher is checked before data are read.

    Raises:
        ConfigError: `overrides` set a key that the leak meter sets itself or that would make trainings unequal, or
            `plan_sweep` raises it.
        DataError: the data cannot be used.
    """
    for key, reason in _CHOSEN_HERE:
        given = next((text for text in overrides if key_of(text) == key), None)
        if given is not None:
            raise ConfigError(f"expected no {key}= in the leak meter, got {given}: {reason}; leave it out")
    fixed = [*overrides, "split=held_out", "split.allow_leakage=true", "test=true"]
    composed = compose(fixed, config_dirs=config_dirs, root=root, in_sweep=True)
    config = composed.config
    _check_budget(config["trainer"])
    check_registered(config)
    places.check_places(config)
    if starts:
        make_launcher(composed.launcher)
    from lesion_exp.training.data import read_ahead
    from lesion_exp.training.first_checks import check_without_torch

    check_without_torch(config)
    with read_ahead(config["dataset"]):
        check_cell(freeze(composed), (), composed.launcher)  # finds mistakes before the images are read
        batches = _batches_of_all(config)
    plan = plan_sweep(
        [*fixed, f"{BUDGET}={batches}", f"{KEY}={','.join(WAYS_TO_SPLIT)}"],
        config_dirs=config_dirs,
        root=root,
        force=force,
    )
    assert plan is not None, "there are several ways of splitting"
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
                f"expected trainings with equal numbers of steps in the leak meter, got trainer.{key}={node}: "
                f"{reason}; leave it out"
            )


def _batches_of_all(config: Mapping[str, Any]) -> int:
    """The number of batches in an epoch (on each device) that is possible for every way of splitting, at most as many
    as the config asks for."""
    from lesion_exp.data.batches import TrainingBatches
    from lesion_exp.training.data import load_data, split_data
    from lesion_exp.training.trainer import num_processes

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
