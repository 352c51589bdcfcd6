"""How long a training takes, from the measured speeds of its network.

Seconds without another source were measured on a machine with two threads that was otherwise quiet; `Machine.slowdown`
multiplies them.
"""

from __future__ import annotations

from typing import Final

from lesion_exp.verbs.plan.candidate import Speed
from lesion_exp.verbs.plan.facts import Situation

SHARE_OF_BUDGET: Final = 0.95
"""Share of the budget that a plan fills. The rest is for speeds that are not quite those of the measurement."""
MOST_FOR_TTA: Final = 0.1
"""Largest share of the budget for predictions of the 8 flips and quarter turns, which winners average. Untested."""
START_SECONDS: Final = 11.0
"""From the command to the first step, beside reading the table and the split: imports, checks, and opening the run."""
EPOCH_SECONDS: Final = 0.1
"""Of an epoch beside its steps and its validation: metrics and checkpoints. In 46 epochs of a small network it was too
little to be measured; networks with larger checkpoints are untested."""
END_SECONDS: Final = 8.0
"""Of each run beside these: the network is built, and after the last prediction intervals, figures and files are."""
SWEEP_SECONDS: Final = 20.0
"""Of a sweep: its cells are checked, at the end folds are evaluated as one, and the cells are summarised."""
SOLVE_SECONDS: Final = 0.004
"""To solve for the head of a probe, per training image."""
FLIPS: Final = 8


def times(situation: Situation, speed: Speed, epochs: int, runs: int) -> dict[str, float]:
    """Returns the seconds of each piece of work of `runs` trainings of `epochs`."""
    parts, slowdown = situation.facts.parts, situation.machine.slowdown
    if speed.candidate.is_probe:
        training = sum(parts.values()) / speed.evaluation + runs * parts["train"] * SOLVE_SECONDS * slowdown
        validation = prediction = 0.0
    else:
        training = runs * epochs * (parts["train"] / speed.training + EPOCH_SECONDS * slowdown)
        validation = runs * epochs * parts["val"] / speed.evaluation
        views = FLIPS if uses_flips(situation, speed, runs) else 1
        prediction = runs * views * (parts["val"] + parts["test"]) / speed.evaluation
    return {
        "start": START_SECONDS * slowdown + situation.reading,
        "training": training,
        "validation": validation,
        "prediction": prediction,
        "evaluation": (runs * END_SECONDS + (SWEEP_SECONDS if runs > 1 else 0)) * slowdown,
    }


def uses_flips(situation: Situation, speed: Speed, runs: int) -> bool:
    """Returns whether the mean over flips is affordable; a probe, which would need features of 8 views, has none."""
    parts = situation.facts.parts
    seconds = runs * FLIPS * (parts["val"] + parts["test"]) / speed.evaluation
    return not speed.candidate.is_probe and seconds <= MOST_FOR_TTA * situation.budget


def epochs_in_budget(situation: Situation, speed: Speed, runs: int) -> float:
    """Returns the epochs of each of `runs` trainings that fit into the budget; infinity for a probe that fits."""
    fixed = sum(times(situation, speed, 0, runs).values())
    each = sum(times(situation, speed, 1, runs).values()) - fixed
    left = SHARE_OF_BUDGET * situation.budget - fixed
    if left < 0:
        return 0
    return left // each if each else float("inf")
