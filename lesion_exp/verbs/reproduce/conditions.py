"""The conditions on which a result may depend in addition to the job: data, split, code, packages, machine."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lesion_exp.data.data_fingerprint import PARTS
from lesion_exp.tracking.environment import OWN_CODE

DATA: Final = "data"
SPLIT: Final = "split"
CODE: Final = "code commit"
CHANGES: Final = "uncommitted changes"
THREADS: Final = "threads"
"""PyTorch's number of threads: sums over another number of parts are rounded differently."""
RESOLVED: Final = ("trainer.accelerator", "trainer.devices", "trainer.precision")
"""Keys whose `auto` may have another meaning on another machine."""
FILES: Final = ("packages.txt", "python.json", "hardware.json", "git.json", "changes.patch", OWN_CODE)
"""Artifacts below `environment/` from which conditions are read."""

Conditions = Mapping[str, str]
"""The state of each condition by name, such as `package torch`."""


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
    """The conditions of a run; those that are not known are left out.

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
        found |= {f"your code {name}": digest for name, digest in json.loads(environment[OWN_CODE]).items()}
    if "python.json" in environment:
        found |= _python(json.loads(environment["python.json"]))
    if "hardware.json" in environment:
        found |= _hardware(json.loads(environment["hardware.json"]))
    for line in environment.get("packages.txt", "").splitlines():
        name, _, version = line.partition("==")
        found[f"package {re.sub(r'[-_.]+', '-', name).lower()}"] = version
    return {name: state for name, state in found.items() if state is not None}


def data_conditions(parts: Mapping[str, str]) -> dict[str, str]:
    """The fingerprint of each part of the data, by a name such as `data (labels)`."""
    return {f"{DATA} ({words})": parts[part] for part, words in PARTS.items() if part in parts}


def differences(then: Conditions, now: Conditions) -> list[Difference]:
    """The conditions whose states differ, in the order of `then`, new ones last."""
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
