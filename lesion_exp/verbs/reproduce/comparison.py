"""Compares two runs: the conditions of each, their weights, and every point of their metrics except times."""

from __future__ import annotations

import hashlib
import json
import math
import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from lesion_exp.config.registered import is_within
from lesion_exp.data.data_fingerprint import PARTS
from lesion_exp.evaluation.registry import TEST
from lesion_exp.tracking.environment import OWN_CODE
from lesion_exp.tracking.stored_run import History, Point
from lesion_exp.verbs.reproduce.request import ReproductionRequest

DATA: Final = "data"
SPLIT: Final = "split"
CODE: Final = "code commit"
CHANGES: Final = "uncommitted changes"
OF_THE_USER: Final = "your code "
"""Beginning of the name of a condition that is a file of the user's own package."""
THREADS: Final = "threads"
"""PyTorch's number of threads: sums over another number of parts are rounded differently."""
RESOLVED: Final = ("trainer.accelerator", "trainer.devices", "trainer.precision")
"""Keys whose `auto` may have another meaning on another machine."""
FILES: Final = ("packages.txt", "python.json", "hardware.json", "git.json", "changes.patch", OWN_CODE)
"""Artifacts below `environment/` from which conditions are read."""
Conditions = Mapping[str, str]
"""The state of each condition by name, such as `package torch`."""
Kind = Literal["identical", "within tolerance", "diverged"]
EPOCH_CLOCK: Final = "time/epoch_seconds"
"""The metric whose points are at the ends of epochs."""
_NOT_COMPARED: Final = ("time/", "system/", "evaluation/", "explanation/", "shortcuts/")
"""Prefixes of metrics that measure the machine, or that `evaluate`, `explain` and `shortcuts` add to a run later."""
_STAGES: Final = ("train", "lr", "val", "best", "test")


@dataclass(frozen=True)
class Difference:
    """A condition that has changed; a state is None if it was not recorded or does not exist."""

    name: str
    then: str | None
    now: str | None
    note: str = ""
    """The consequence, or what to do about it."""

    def __str__(self) -> str:
        states = f"{self.then or 'none'} then, {self.now or 'none'} now"
        return f"{self.name}: {states}" + (f" ({self.note})" if self.note else "")


def conditions(
    environment: Mapping[str, str], fingerprint: str | None, split_hash: str | None, resolved: Mapping[str, Any]
) -> dict[str, str]:
    """Returns the conditions of a run; those that are not known are left out.

    Args:
        environment: the texts of the files in `FILES`, by name.
        fingerprint: of all data.
        split_hash: of the split.
        resolved: the values of the keys in `RESOLVED`, without `auto`.
    """
    found = {DATA: fingerprint, SPLIT: split_hash, **{key: str(value) for key, value in resolved.items()}}
    if "git.json" in environment:
        found |= _code(json.loads(environment["git.json"]), environment.get("changes.patch"))
    if OWN_CODE in environment:
        found |= {f"{OF_THE_USER}{name}": digest for name, digest in json.loads(environment[OWN_CODE]).items()}
    if "python.json" in environment:
        found |= _python(json.loads(environment["python.json"]))
    if "hardware.json" in environment:
        found |= _hardware(json.loads(environment["hardware.json"]))
    for line in environment.get("packages.txt", "").splitlines():
        name, _, version = line.partition("==")
        found[f"package {re.sub(r'[-_.]+', '-', name).lower()}"] = version
    return {name: state for name, state in found.items() if state is not None}


def data_conditions(parts: Mapping[str, str]) -> dict[str, str]:
    """Returns the fingerprint of each part of the data, by a name such as `data (labels)`."""
    return {f"{DATA} ({words})": parts[part] for part, words in PARTS.items() if part in parts}


def is_of_data(name: str) -> bool:
    """Returns whether the condition `name` is known only if the data can be read."""
    return name in (DATA, SPLIT) or name.startswith(f"{DATA} (")


def package_of(name: str, recorded: Collection[str] = ()) -> str | None:
    """Returns the package of the user to whose files the condition `name` belongs; None for another condition.

    It is the largest of the packages that were `recorded` with a run to which the file belongs, as the user named them
    (`clinic.losses`), and else the first part of its name.
    """
    if not name.startswith(OF_THE_USER):
        return None
    module = _module(name)
    return min((package for package in recorded if is_within(module, [package])), key=len, default=module.split(".")[0])


def _module(name: str) -> str:
    """The dotted name of the file of the user's own code that the condition `name` is."""
    return name.removeprefix(OF_THE_USER).removesuffix(".py").replace("/", ".")


def is_untrusted(name: str, trusted: Collection[str]) -> bool:
    """Returns whether the condition `name` is a file of the user's own code in none of the `trusted` packages."""
    return name.startswith(OF_THE_USER) and not is_within(_module(name), trusted)


def differences(then: Conditions, now: Conditions) -> list[Difference]:
    """Returns the conditions whose states differ, in the order of `then`, new ones last."""
    names = list(dict.fromkeys([*then, *now]))
    return [Difference(name, then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)]


def _code(git: Mapping[str, Any], patch: str | None) -> dict[str, str | None]:
    changes = None
    if git["dirty"]:
        digest = hashlib.sha256(patch.encode()).hexdigest()[:12] if patch else ""
        changes = f"a patch of {len(patch.splitlines())} lines ({digest})" if patch else "not kept"
    return {CODE: git["commit"], CHANGES: changes}


def _python(recorded: Mapping[str, Any]) -> dict[str, str]:
    return {
        "python": f"{recorded['implementation']} {recorded['python']}",
        "platform": recorded["platform"],
        THREADS: str(recorded["torch_num_threads"]),
    }


def _hardware(recorded: Mapping[str, Any]) -> dict[str, str | None]:
    gpus = ", ".join(f"{gpu['name']} (driver {gpu['driver']})" for gpu in recorded["gpus"])
    return {
        "processor": recorded["cpu"],
        "instructions": " ".join(recorded["instructions"]),
        "GPUs": gpus or None,
    }


@dataclass(frozen=True)
class Gap:
    """A point at which two runs differ; a value is None if the run lacks the point."""

    metric: str
    epoch: int
    """The number of the epoch, from 1."""
    step: int
    then: float | None
    now: float | None
    size: float
    """|now - then|, divided by |then| if that is above 1; infinite if only one of them is a number."""

    def __str__(self) -> str:
        values = (f"{self.then!r} then, {self.now!r} now").replace("None", "absent")
        return f"{self.metric} in epoch {self.epoch} (step {self.step}): {values}"


@dataclass(frozen=True)
class RunComparison:
    """The result of comparing two runs."""

    kind: Kind
    weights: tuple[str | None, str | None]
    """The hashes of the best weights, then and now."""
    num_metrics: int
    num_points: int
    first: Gap | None
    """The first point beyond the tolerance, or if there is none the first that differs at all."""
    largest: Gap | None
    """The point with the largest difference."""


def compare_runs(
    then: History,
    now: History,
    weights: tuple[str | None, str | None],
    tolerance: float = ReproductionRequest.tolerance,
) -> RunComparison:
    """Compares the metrics and the hashes of the best weights of two runs.

    The result is `identical` if weights and all points are equal bit for bit, `within tolerance` if no difference is
    larger than `tolerance`, and else `diverged`. The times of points are not compared, nor are metrics of the machine
    (`time/...`, `system/...`) and those that verbs add to a run later (`evaluation/...`, `explanation/...`,
    `shortcuts/...`, later values of `test/...`).
    """
    then, now = _as_trained(then), _as_trained(now)
    names = sorted(name for name in {*then, *now} if not name.startswith(_NOT_COMPARED))
    ends = sorted({point.step for point in then.get(EPOCH_CLOCK, now.get(EPOCH_CLOCK, ()))})
    gaps = sorted(
        (gap for name in names for gap in _gaps(name, then.get(name, ()), now.get(name, ()), ends)), key=_order
    )
    beyond = [gap for gap in gaps if gap.size > tolerance]
    same_weights = weights[0] == weights[1]
    kind: Kind = "diverged" if beyond else "identical" if same_weights and not gaps else "within tolerance"
    return RunComparison(
        kind=kind,
        weights=weights,
        num_metrics=len(names),
        num_points=sum(len(then.get(name, ())) for name in names),
        first=next(iter(beyond or gaps), None),
        largest=max(gaps, key=lambda gap: gap.size, default=None),
    )


def _as_trained(history: History) -> History:
    """The points that a training logs, which logs its results on the test part once."""
    test = f"{TEST}/"
    return {
        name: [point for point in points if not name.startswith(test) or point.step == min(points).step]
        for name, points in history.items()
    }


def _gaps(name: str, then: Sequence[Point], now: Sequence[Point], ends: Sequence[int]) -> Iterator[Gap]:
    before, after = _by_step(then), _by_step(now)
    for step in sorted({*before, *after}):
        old, new = before.get(step, []), after.get(step, [])
        for position in range(max(len(old), len(new))):
            pair = [values[position] if position < len(values) else None for values in (old, new)]
            size = _size(*pair)
            if size > 0:
                yield Gap(name, _epoch(step, ends), step, pair[0], pair[1], size)


def _by_step(points: Sequence[Point]) -> Mapping[int, list[float]]:
    found: dict[int, list[float]] = {}
    for point in sorted(points):
        found.setdefault(point.step, []).append(point.value)
    return found


def _size(then: float | None, now: float | None) -> float:
    if then is None or now is None:
        return math.inf
    if then == now or (math.isnan(then) and math.isnan(now)):
        return 0.0
    size = abs(now - then) / max(1.0, abs(then))
    return math.inf if math.isnan(size) else size


def _epoch(step: int, ends: Sequence[int]) -> int:
    return min(bisect_right(ends, step) + 1, max(len(ends), 1))


def _order(gap: Gap) -> tuple[int, int, int, str]:
    stage = gap.metric.partition("/")[0].partition("-")[0]
    return gap.epoch, gap.step, _STAGES.index(stage) if stage in _STAGES else len(_STAGES), gap.metric
