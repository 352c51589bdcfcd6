"""The run that a key of the config names, resolved when a job is composed.

`latest` or `best:METRIC` mean another run tomorrow, so a job names the id of the run and the hash of its weights.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError

if TYPE_CHECKING:
    from lesion_exp.tracking.stored_run import Run

TEACHER: Final = "loss.teacher"
TEACHER_WEIGHTS: Final = "teacher_weights"
WEIGHTS_TAG: Final = "weights_hash"
MEMBERS_TAG: Final = "members"
METHOD_TAG: Final = "ensemble"
TEACHING_METHODS: Final = ("mean", "pooled", "soup")
"""Ways to combine runs whose results are probabilities of the members' networks, or of one network."""
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
_FILES: Final = {".ckpt": "checkpoint", ".zip": "bundle", ".safetensors": "file of weights"}


def named_run(spec: str, project: Project, key: str) -> Run:
    """The finished run in the project's store that `spec`, the value of `key`, names: an id, the beginning of one,
    `latest`, `best:METRIC` or an alias.

    Raises:
        ConfigError: `spec` names no run, several, one that has not finished, or a file.
    """
    from lesion_exp.tracking.find import find_run  # MLflow takes seconds to import

    kind = _FILES.get(Path(spec).suffix)
    if kind is not None and Path(spec).expanduser().is_file():
        remedy = f"lesion-exp bundle import input={spec} says the id of its run" if kind == "bundle" else (
            "write the id of the run that it belongs to")  # fmt: skip
        raise ConfigError(f"expected a run of the store for {key}, got a {kind}, {spec}; {remedy}")
    try:
        run = find_run(project.store, spec)
    except ConfigError as error:
        raise ConfigError(f"{key}={spec}: {error}") from error
    if run.status != "FINISHED":
        raise ConfigError(
            f"expected a run that has finished for {key}, got {run.run_id} ({run.status}); lesion-exp resume "
            f"run={run.run_id} continues one that stopped"
        )
    return run


def hash_of_weights(run: Run, key: str) -> str:
    """The hash of the weights of `run` (16 digits), for an ensemble that of its method and of its members' weights.

    Raises:
        ConfigError: the run has no weights, or combines runs in a way that gives no probabilities.
    """
    if run.tags.get(WEIGHTS_TAG):
        return run.tags[WEIGHTS_TAG]
    members, method = members_of(run), run.tags.get(METHOD_TAG, "")
    if members and method not in TEACHING_METHODS:
        raise ConfigError(
            f"expected an ensemble of the kind mean or pooled for {key}, got {run.run_id} ({method}), whose results do "
            f"not follow from the probabilities of one image; lesion-exp evaluate "
            f"'run=[{','.join(name[:8] for name in members)}]' ensemble=mean makes one"
        )
    if not members or method == "soup":
        raise ConfigError(
            f"expected a run with weights for {key}, got {run.run_id} ({run.name}), which has no tag {WEIGHTS_TAG}; "
            f"name a run that lesion-exp train or evaluate ensemble= has finished with this version"
        )
    from lesion_exp.tracking.find import find_run

    own = [hash_of_weights(find_run(run.store, name), key) for name in members]
    return hashlib.sha256("\n".join([method, *own]).encode()).hexdigest()[:16]


def members_of(run: Run) -> list[str]:
    """The ids of the runs that `run` combines without having a network of its own; empty for others."""
    if run.tags.get(WEIGHTS_TAG):
        return []
    return [name for name in run.tags.get(MEMBERS_TAG, "").split(",") if name]


def resolve_teacher(config: dict[str, Any]) -> None:
    """Sets `loss.teacher` to the id of the run that it names, and `loss.teacher_weights` to the hash of its weights.

    Nothing is done for a loss without these keys, or where both are given already: a run checks them when it starts.

    Raises:
        ConfigError: see `named_run`; or another hash is given.
    """
    node = config["loss"]
    if TEACHER_WEIGHTS not in node or "teacher" not in node:
        return
    for key, example in (("teacher", "latest"), (TEACHER_WEIGHTS, "null")):
        if not isinstance(node[key], str) and (key == "teacher" or node[key] is not None):
            raise ConfigError(f"expected text for loss.{key}, got {node[key]!r}; for example loss.{key}={example}")
    if node[TEACHER_WEIGHTS] is not None and _RUN_ID.fullmatch(node["teacher"]):
        return
    run = named_run(node["teacher"], Project.from_config(config), TEACHER)
    found = hash_of_weights(run, TEACHER)
    if node[TEACHER_WEIGHTS] not in (None, found):
        raise ConfigError(
            f"expected the weights {found} of run {run.run_id} in loss.{TEACHER_WEIGHTS}, got {node[TEACHER_WEIGHTS]}; "
            f"leave the key out"
        )
    node["teacher"], node[TEACHER_WEIGHTS] = run.run_id, found


def with_resolved(overrides: Sequence[str], config: Mapping[str, Any]) -> tuple[str, ...]:
    """`overrides` with the id of the teacher in the place of the words that named it."""
    node = config["loss"]
    if not node.get(TEACHER_WEIGHTS):
        return tuple(overrides)
    return tuple(
        f"{TEACHER}={node['teacher']}" if text.lstrip("+").partition("=")[0] == TEACHER else text for text in overrides
    )
