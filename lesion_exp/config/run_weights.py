"""Resolves `backbone.weights=run:ID` to the file of the run's weights when a config is composed."""

from __future__ import annotations

import logging
from typing import Final

from omegaconf import DictConfig, OmegaConf

from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run

log = logging.getLogger(__name__)

RUN: Final = "run:"
KEY: Final = "backbone.weights"
_CHANGING: Final = ("latest", "best:")
"""Names of runs that may mean another run later."""


def resolve_run_weights(config: DictConfig, *, in_sweep: bool) -> str | None:
    """Sets `backbone.weights` to the checkpoint of the run that it names, and `backbone.weights_run` to the run's id.

    The job then holds the path, and counts the file's content in its hash. Returns the id; None if no run is named.

    Raises:
        ConfigError: there is no such run, it has not finished, or it has no weights; or a sweep names a run by a word
            that may mean another run for a later cell.
    """
    named = OmegaConf.select(config, KEY)
    if not isinstance(named, str) or not named.startswith(RUN):
        return None
    spec = named.removeprefix(RUN)
    if not spec:
        raise ConfigError(f"expected a run after {KEY}={RUN}, got none; for example {KEY}=run:latest")
    plain = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("paths", "tracking")}
    run = find_run(Project.from_config(plain).opened().store, spec)
    if in_sweep and spec.startswith(_CHANGING):
        raise ConfigError(
            f"expected the id of a run in the cells of a sweep, because {spec} may mean one of them later, got "
            f"{KEY}={named}; write {KEY}=run:{run.run_id}"
        )
    path = run.fetch(artifacts.checkpoint())
    if run.status != "FINISHED" or path is None:
        why = "has no checkpoint" if run.status == "FINISHED" else f"is {run.status}"
        raise ConfigError(
            f"expected a finished run with weights in {KEY}={named}, but run {run.run_id} ({run.name}) {why}; "
            f"lesion-exp resume run={run.run_id} continues one that stopped"
        )
    log.info("%s=%s is run %s (%s)", KEY, named, run.run_id, run.name)
    OmegaConf.update(config, KEY, str(path.absolute()), force_add=True)
    OmegaConf.update(config, f"{KEY}_run", run.run_id, force_add=True)
    return run.run_id
