"""Leak meters among the sweeps of a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from lesion_exp.errors import ConfigError
from lesion_exp.sweeps.ledger import Sweep, find_sweep, sweeps_in

if TYPE_CHECKING:
    from lesion_exp.sweeps.plan import Plan

KEY: Final = "split.way"
"""In which the cells of a leak meter differ."""
BUDGET: Final = "trainer.limit_train_batches"
"""The key that makes their budgets equal."""


def same_meter(folder: Path, plan: Plan) -> Sweep | None:
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
