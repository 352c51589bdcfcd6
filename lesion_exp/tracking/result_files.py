"""Reads results of a run that are not metrics in MLflow from the JSON files of its evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lesion_exp.evaluation.registry import FOLDER, LOSS, SECTIONS, TEST, is_metric

Fetch = Callable[[str], Path | None]
"""A function from the path of an artifact to its file on this machine, or None if the run has no such artifact."""
_PARTS: Final = ("val", TEST)
_PLAIN: Final = "metrics"
_ENDS: Final = ("low", "high")


def may_be_in_files(name: str) -> bool:
    """Whether `name` can be the name of a result in a file."""
    return _place(name) is not None


def is_in_files_alone(name: str) -> bool:
    """Whether newer runs store the result `name` in a file only, while older runs have a metric."""
    return not is_metric(name) and may_be_in_files(name)


def result_in_files(fetch: Fetch, name: str) -> float | None:
    """The result `name`, such as `isic/balanced_accuracy` or `test/average_precision/mel`; None if there is none."""
    place = _place(name)
    if place is None:
        return None
    folder, section, key = place
    return _read(fetch, folder, section).get(key)


def results_of_test_part(fetch: Fetch) -> dict[str, float]:
    """All results of the test part by name, including those of sections such as `isic`."""
    found = {f"{TEST}/{key}": value for key, value in _read(fetch, TEST, _PLAIN).items()}
    for section in SECTIONS:
        found |= {f"{section}/{key}": value for key, value in _read(fetch, TEST, section).items()}
    return found


def _place(name: str) -> tuple[str, str, str] | None:
    """The folder below `evaluation`, the file name without its ending, and the key of the result `name`."""
    first, _, rest = name.partition("/")
    if first in SECTIONS:
        return TEST, first, rest
    folder = first
    if first == FOLDER:
        folder, _, rest = rest.partition("/")
    elif first not in _PARTS:
        return None
    section, _, inner = rest.partition("/")
    return (folder, section, inner) if section in SECTIONS else (folder, _PLAIN, rest)


def _read(fetch: Fetch, folder: str, section: str) -> dict[str, float]:
    """The values of a file by key, with the ends of their intervals as `KEY_low` and `KEY_high`."""
    path = fetch(f"{FOLDER}/{folder}/{section}.json")
    if path is None:
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    values: dict[str, float] = {}
    ends: dict[str, float] = {}
    for key, entry in content.items():
        if isinstance(entry, dict) and isinstance(entry.get("value"), (int, float)):
            name = LOSS if section == _PLAIN and key == "nll" else key
            values[name] = float(entry["value"])
            ends |= {f"{name}_{end}": float(entry[end]) for end in _ENDS if isinstance(entry.get(end), (int, float))}
    return {**ends, **values}  # the metric of a class may happen to have the name of an end
