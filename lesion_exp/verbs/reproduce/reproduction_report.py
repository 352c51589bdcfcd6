"""The results of a reproduction as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lesion_exp.verbs.reproduce.comparison import Gap, RunComparison
from lesion_exp.verbs.reproduce.reproduce import Checked


def condition_lines(checked: Checked) -> Iterator[str]:
    """Lines of text about the conditions, one for each difference."""
    count = len(checked.differences)
    if checked.not_compared:
        yield f"not compared, because the data cannot be read: {', '.join(checked.not_compared)}"
    if checked.untrusted:
        flags = " ".join(f"--trust {package}" for package in checked.packages)
        yield (
            f"not compared, because the code of {', '.join(checked.packages)} is not trusted: "
            f"{', '.join(checked.untrusted)}; to compare it, add {flags}"
        )
    if count == 0:
        yield f"conditions: all {checked.num_conditions} are the same"
        return
    yield f"conditions: {count} of {checked.num_conditions} differ"
    for difference in checked.differences:
        yield f"  {difference}"


def comparison_lines(run_id: str, comparison: RunComparison) -> Iterator[str]:
    """Lines of text about the comparison with the new run `run_id`."""
    then, now = comparison.weights
    compared = f"{comparison.num_metrics} metrics ({comparison.num_points} points)"
    if then is None and now is None:
        weights = "neither run kept weights"
    else:
        weights = f"weights {then} equal" if then == now else f"weights {then or 'none'} then, {now or 'none'} now"
    if comparison.kind == "identical":
        yield f"identical: {weights}, {compared} equal bit for bit"
    elif comparison.kind == "within tolerance":
        yield f"within tolerance: {weights}; of {compared} " + (
            f"the largest difference is {comparison.largest.size:.3g}: {comparison.largest}"
            if comparison.largest
            else "all are equal"
        )
    else:
        assert comparison.first is not None, "runs that diverged have a difference"
        assert comparison.largest is not None, "runs that diverged have a difference"
        yield f"diverged: first in {comparison.first}"
        largest = comparison.largest
        yield f"  {weights}; of {compared} the largest difference is {largest.size:.3g}: {largest}"
    yield f"run {run_id}"


def as_json(run_id: str | None, job_hash: str, checked: Checked | None) -> dict[str, Any]:
    """Returns the object that `reproduce --check-only --json` prints; `run_id` is that of the first run."""
    found = checked.differences if checked else []
    return {
        "run": run_id,
        "job_hash": job_hash,
        "num_conditions": checked.num_conditions if checked else 0,
        "differences": [{"name": d.name, "then": d.then, "now": d.now, "note": d.note} for d in found],
        "not_compared": [*checked.not_compared, *checked.untrusted] if checked else [],
    }


def comparison_json(new_run_id: str, comparison: RunComparison) -> dict[str, Any]:
    """Returns the entries that are added to the object after training."""
    return {
        "new_run": new_run_id,
        "verdict": comparison.kind,
        "weights": {"then": comparison.weights[0], "now": comparison.weights[1]},
        "num_metrics": comparison.num_metrics,
        "num_points": comparison.num_points,
        "first_difference": _gap(comparison.first),
        "largest_difference": _gap(comparison.largest),
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
    """`value`, or None for NaN and infinity, which JSON does not have."""
    return value if value is not None and math.isfinite(value) else None
