"""Refuses to resume a run that has finished. It imports no torch, so that the answer comes at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from lesion_exp.config.freeze import read_job
from lesion_exp.errors import ConfigError
from lesion_exp.next_command import key_of, next_command
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.stored_run import TRAINING_KINDS, Run, download_artifact

FOLLOWS_LENGTH: Final[Mapping[str, str]] = {
    "lesion_exp.scheduler.cosine.cosine": "scheduler=cosine follows the length of the training",
    "lesion_exp.scheduler.one_cycle.one_cycle": "scheduler=one_cycle follows the length of the training",
    "lesion_exp.optimizer.logistic_path.LogisticPath": "optimizer=logistic_path spreads its strengths over all epochs",
}
"""Targets with which a run cannot be trained for longer, because its first steps would have been others; and why."""


def check_unfinished(run: Run) -> None:
    """Checks that `run` is not a training that has finished.

    Raises:
        ConfigError: it is; the message has the commands that train it again, and for longer.
        DataError: it is, and its job is missing.
    """
    if run.status != "FINISHED" or run.tags.get("kind") not in TRAINING_KINDS:
        return
    raise ConfigError(
        f"expected a run that stopped, but {run.run_id} has finished. To train it again:\n"
        f"  {next_command('reproduce', f'run={run.run_id}')}\n{_longer(run)}"
    )


def with_keys(overrides: Sequence[str], changes: Mapping[str, object]) -> tuple[str, ...]:
    """Returns the overrides with the values in `changes` in place of those that they give to the same keys."""
    kept = [text for text in overrides if key_of(text) not in changes]
    return (*kept, *(f"{key}={value}" for key, value in changes.items()))


def _longer(run: Run) -> str:
    """How the finished `run` is trained for longer."""
    targets = (run.params.get(f"{group}._target_", "") for group in ("scheduler", "optimizer"))
    reason = next((FOLLOWS_LENGTH[target] for target in targets if target in FOLLOWS_LENGTH), "")
    if not reason:
        return f"To train it for longer:\n  {next_command('resume', f'run={run.run_id}', 'trainer.max_epochs=N')}"
    job = read_job(download_artifact(run, artifacts.JOB))
    longer = replace(job, overrides=with_keys(job.overrides, {"trainer.max_epochs": "N"}))
    return f"To train a longer one from the start, because {reason}:\n  {longer.command}"
