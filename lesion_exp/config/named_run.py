"""The run that a key of the config names, resolved when a job is composed.

`latest` or `best:METRIC` may mean another run tomorrow, so a job names the id of the run and the hash of its weights.
In a sweep a name is resolved once, so that no cell starts from another cell.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omegaconf import DictConfig, OmegaConf

from lesion_exp.choices import POOLED, SOUP
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError
from lesion_exp.next_command import next_command
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.run_names import check_names
from lesion_exp.tracking.store import embedded_database

if TYPE_CHECKING:
    from lesion_exp.tracking.stored_run import Run

log = logging.getLogger(__name__)

TEACHER: Final = "loss.teacher"
WEIGHTS: Final = "backbone.weights"
RUN: Final = "run:"
"""Prefix of a value of `backbone.weights` that names a run."""
TEACHER_WEIGHTS: Final = "teacher_weights"
WEIGHTS_TAG: Final = "weights_hash"
METHOD_TAG: Final = "ensemble"
TEACHING_METHODS: Final = ("mean", POOLED, SOUP)
"""Ways to combine runs that give probabilities for each image, which a student can learn from."""
Runs = dict[str, str]
"""The ids of runs by the names that were resolved to them."""
_RUN_ID: Final = re.compile(r"[0-9a-f]{32}")
_FILES: Final = {".ckpt": "checkpoint", ".zip": "bundle", ".safetensors": "file of weights"}


def named_run(spec: str, project: Project, key: str, runs: Runs | None = None) -> Run:
    """Returns the finished run in the project's store that `spec`, the value of `key`, names.

    `spec` is an id or its beginning, `latest`, `best:METRIC` or an alias.

    A name that is in `runs` means the run that it meant before; any other is added.

    Raises:
        ConfigError: `spec` names no run, several runs, a run that has not finished, or a file.
    """
    kind = _FILES.get(Path(spec).suffix)
    if kind is not None and Path(spec).expanduser().is_file():
        remedy = f"lesion-exp bundle import input={spec} prints the id of its run" if kind == "bundle" else (
            "write the id of the run to which it belongs")  # fmt: skip
        raise ConfigError(f"expected a run of the store for {key}, got a {kind}, {spec}; {remedy}")
    database = embedded_database(project.store_uri, project.root)
    try:
        if database is not None and not (runs and spec in runs):
            check_names(database, [spec])
        from lesion_exp.tracking.find import find_run  # MLflow takes seconds to import

        run = find_run(project.store, spec if runs is None else runs.get(spec, spec))
    except ConfigError as error:
        raise ConfigError(f"{key}={spec}: {error}") from error
    if run.status != "FINISHED":
        raise ConfigError(
            f"expected a run that has finished for {key}, got {run.run_id} ({run.status}); "
            f"{next_command('resume', f'run={run.run_id}')} continues one that stopped"
        )
    if runs is not None and spec not in runs:
        log.info("%s: %s is run %s (%s)", key, spec, run.run_id, run.name)
        runs[spec] = run.run_id
    return run


def hash_of_weights(run: Run, key: str) -> str:
    """Returns the hash of the weights of `run` (16 digits), for an ensemble that of its method and its members'
    weights.

    Raises:
        ConfigError: the run has no weights, or combines runs in a way that gives no probabilities.
    """
    if run.tags.get(WEIGHTS_TAG):
        return run.tags[WEIGHTS_TAG]
    members, method = members_of(run), run.tags.get(METHOD_TAG, "")
    if members and method not in TEACHING_METHODS:
        raise ConfigError(
            f"expected an ensemble of the kind mean or pooled for {key}, got {run.run_id} ({method}), which does not "
            f"compute its results from the probabilities of one image; lesion-exp evaluate "
            f"'run=[{','.join(name[:8] for name in members)}]' ensemble=mean makes one"
        )
    if not members or method == SOUP:
        raise ConfigError(
            f"expected a run with weights for {key}, got {run.run_id} ({run.name}), which has no tag {WEIGHTS_TAG}; "
            f"name a run that lesion-exp train or evaluate ensemble= has finished with this version"
        )
    from lesion_exp.tracking.find import find_run

    own = [hash_of_weights(find_run(run.store, name), key) for name in members]
    return hashlib.sha256("\n".join([method, *own]).encode()).hexdigest()[:16]


def members_of(run: Run) -> list[str]:
    """Returns the ids of the runs that `run` combines without a network of its own; empty for other runs."""
    return [] if run.tags.get(WEIGHTS_TAG) else run.members


def resolve_teacher(config: dict[str, Any], runs: Runs) -> None:
    """Sets `loss.teacher` to the id of the run that it names, and `loss.teacher_weights` to the hash of its weights.

    Nothing changes for a loss without these keys, or if both are given already, because a run checks them when it
    starts. `runs` is the argument of `named_run`.

    Raises:
        ConfigError: see `named_run`; or the run is a pretraining, or `loss.teacher_weights` is another hash.
    """
    node = config["loss"]
    if TEACHER_WEIGHTS not in node or "teacher" not in node:
        return
    for key, example in (("teacher", "latest"), (TEACHER_WEIGHTS, "null")):
        if not isinstance(node[key], str) and (key == "teacher" or node[key] is not None):
            raise ConfigError(f"expected text for loss.{key}, got {node[key]!r}; for example loss.{key}={example}")
    if node[TEACHER_WEIGHTS] is not None and _RUN_ID.fullmatch(node["teacher"]):
        return
    run = named_run(node["teacher"], Project.from_config(config), TEACHER, runs)
    from lesion_exp.tracking.stored_run import check_classifies  # it imports pandas

    check_classifies(run, TEACHER)
    found = hash_of_weights(run, TEACHER)
    if node[TEACHER_WEIGHTS] not in (None, found):
        raise ConfigError(
            f"expected the weights {found} of run {run.run_id} in loss.{TEACHER_WEIGHTS}, got {node[TEACHER_WEIGHTS]}; "
            f"leave the key out"
        )
    node["teacher"], node[TEACHER_WEIGHTS] = run.run_id, found


def resolve_run_weights(config: DictConfig, runs: Runs) -> None:
    """Sets `backbone.weights` to the checkpoint of the run that it names, and `backbone.weights_run` to the run's id.

    The job then contains the path, and counts the content of the file in its hash. Nothing changes if no run is named.
    `runs` is the argument of `named_run`.

    Raises:
        ConfigError: see `named_run`; or the run has no weights.
    """
    named = OmegaConf.select(config, WEIGHTS, throw_on_missing=False)
    if not isinstance(named, str) or not named.startswith(RUN):
        return
    spec = named.removeprefix(RUN)
    if not spec:
        raise ConfigError(f"expected a run after {WEIGHTS}={RUN}, got none; for example {WEIGHTS}=run:latest")
    plain = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("paths", "tracking")}
    run = named_run(spec, Project.from_config(plain), WEIGHTS, runs)
    path = run.fetch(artifacts.checkpoint())
    if path is None:
        raise ConfigError(
            f"expected a run with weights in {WEIGHTS}={named}, but run {run.run_id} ({run.name}) has no checkpoint; "
            f"name one that lesion-exp train has finished"
        )
    OmegaConf.update(config, WEIGHTS, str(path.absolute()), force_add=True)
    OmegaConf.update(config, f"{WEIGHTS}_run", run.run_id, force_add=True)


def with_run_ids(overrides: Sequence[str], config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns `overrides` with the ids of the teacher and of the initial weights in place of their names."""
    ids = {}
    if config["loss"].get(TEACHER_WEIGHTS):
        ids[TEACHER] = str(config["loss"]["teacher"])
    if config["backbone"].get("weights_run"):
        ids[WEIGHTS] = f"{RUN}{config['backbone']['weights_run']}"
    changed = []
    for text in overrides:
        key, _, value = text.partition("=")
        bare = key.lstrip("+")
        is_name = bare in ids and (bare == TEACHER or value.replace("\\", "").strip("'\"").startswith(RUN))
        changed.append(f"{key}={ids[bare]}" if is_name else text)
    return tuple(changed)
