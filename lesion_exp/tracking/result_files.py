"""Reads the results of a run that are no metrics in MLflow back from the JSON files of its evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lesion_exp.evaluation.registry import FOLDER, LOSS, SECTIONS, TEST, is_metric

Fetch = Callable[[str], Path | None]
"""The file of a run with an artifact's path; None where the run has no such file."""
_PARTS: Final = ("val", TEST)
_PLAIN: Final = "metrics"
_ENDS: Final = ("low", "high")


def may_be_in_files(name: str) -> bool:
    """Whether `name` could be that of a result in a file."""
    return _place(name) is not None


def is_in_files_alone(name: str) -> bool:
    """Whether `name` is that of a result which newer runs keep in files alone, where older runs have a metric."""
    return not is_metric(name) and may_be_in_files(name)


def result_in_files(fetch: Fetch, name: str) -> float | None:
    """The result `name` of a run, such as `isic/balanced_accuracy` or `test/average_precision/mel`; None if unknown."""
    place = _place(name)
    if place is None:
        return None
    folder, section, key = place
    return _read(fetch, folder, section).get(key)


def results_of_test_part(fetch: Fetch) -> dict[str, float]:
    """All results of a run's test part, those of the challenges and so on included, by their names."""
    found = {f"{TEST}/{key}": value for key, value in _read(fetch, TEST, _PLAIN).items()}
    for section in SECTIONS:
        found |= {f"{section}/{key}": value for key, value in _read(fetch, TEST, section).items()}
    return found


def _place(name: str) -> tuple[str, str, str] | None:
    """The folder below `evaluation`, the file without its ending, and the key of the result `name`."""
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
    """The values of a file by their keys, and the ends of their intervals as `KEY_low` and `KEY_high`."""
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
    return {**ends, **values}  # a class may be called so that its metric has the name of an end
