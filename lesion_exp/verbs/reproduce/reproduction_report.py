"""A reproduction in words and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lesion_exp.verbs.reproduce.reproduce import Checked
from lesion_exp.verbs.reproduce.verdict import Gap, RunComparison


def condition_lines(checked: Checked) -> Iterator[str]:
    """The comparison of conditions, a line a difference."""
    count = len(checked.differences)
    if count == 0:
        yield f"conditions: all {checked.num_conditions} are the same"
        return
    yield f"conditions: {count} of {checked.num_conditions} differ"
    for difference in checked.differences:
        yield f"  {difference}"


def comparison_lines(run_id: str, verdict: RunComparison) -> Iterator[str]:
    """The verdict on the new run `run_id`."""
    then, now = verdict.weights
    compared = f"{verdict.num_metrics} metrics ({verdict.num_points} points)"
    if then is None and now is None:
        weights = "neither run kept weights"
    else:
        weights = f"weights {then} equal" if then == now else f"weights {then or 'none'} then, {now or 'none'} now"
    if verdict.kind == "identical":
        yield f"identical: {weights}, {compared} equal bit for bit"
    elif verdict.kind == "within tolerance":
        yield f"within tolerance: {weights}; of {compared} " + (
            f"the largest difference is {verdict.largest.size:.3g}: {verdict.largest}"
            if verdict.largest
            else "all are equal"
        )
    else:
        assert verdict.first is not None, "what diverged did so somewhere"
        assert verdict.largest is not None, "what diverged did so somewhere"
        yield f"diverged: first in {verdict.first}"
        yield f"  {weights}; of {compared} the largest difference is {verdict.largest.size:.3g}: {verdict.largest}"
    yield f"run {run_id}"


def as_json(run_id: str | None, job_hash: str, checked: Checked | None) -> dict[str, Any]:
    """The object that `reproduce --check-only --json` prints; `run_id` is the first run's."""
    found = checked.differences if checked else []
    return {
        "run": run_id,
        "job_hash": job_hash,
        "num_conditions": checked.num_conditions if checked else 0,
        "differences": [{"name": d.name, "then": d.then, "now": d.now, "note": d.note} for d in found],
    }


def comparison_json(new_run_id: str, verdict: RunComparison) -> dict[str, Any]:
    """What is added to it after training."""
    return {
        "new_run": new_run_id,
        "verdict": verdict.kind,
        "weights": {"then": verdict.weights[0], "now": verdict.weights[1]},
        "num_metrics": verdict.num_metrics,
        "num_points": verdict.num_points,
        "first_difference": _gap(verdict.first),
        "largest_difference": _gap(verdict.largest),
    }


def _gap(gap: Gap | None) -> dict[str, Any] | None:
    if gap is None:
        return None
    return {
        "metric": gap.metric,
        "epoch": gap.epoch,
        "step": gap.step,
        "then": _number(gap.then),
        "now": _number(gap.now),
        "size": _number(gap.size),
    }


def _number(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None
