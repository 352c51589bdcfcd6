"""Resolves `backbone.weights=run:ID` to the file of the run's weights when a config is composed."""

from __future__ import annotations

import logging
from typing import Final

from omegaconf import DictConfig, OmegaConf

from lesion_exp.config.named_run import named_run
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError
from lesion_exp.tracking import artifacts

log = logging.getLogger(__name__)

RUN: Final = "run:"
KEY: Final = "backbone.weights"
_CHANGING: Final = ("latest", "best:")
"""Names of runs that may mean another run later."""


def resolve_run_weights(config: DictConfig, *, in_sweep: bool) -> str | None:
    """Sets `backbone.weights` to the checkpoint of the run that it names, and `backbone.weights_run` to the run's id.

    The job then holds the path, and counts the file's content in its hash. Returns the id; None if no run is named.

    Raises:
        ConfigError: see `named_run`; the run has no weights, or a sweep names it by a word that may mean another run
            for a later cell.
    """
    named = OmegaConf.select(config, KEY)
    if not isinstance(named, str) or not named.startswith(RUN):
        return None
    spec = named.removeprefix(RUN)
    if not spec:
        raise ConfigError(f"expected a run after {KEY}={RUN}, got none; for example {KEY}=run:latest")
    plain = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("paths", "tracking")}
    run = named_run(spec, Project.from_config(plain), KEY)
    if in_sweep and spec.startswith(_CHANGING):
        raise ConfigError(
            f"expected the id of a run in the cells of a sweep, because {spec} may mean one of them later, got "
            f"{KEY}={named}; write {KEY}=run:{run.run_id}"
        )
    path = run.fetch(artifacts.checkpoint())
    if path is None:
        raise ConfigError(
            f"expected a run with weights in {KEY}={named}, but run {run.run_id} ({run.name}) has no checkpoint; name "
            f"one that lesion-exp train has finished"
        )
    log.info("%s=%s is run %s (%s)", KEY, named, run.run_id, run.name)
    OmegaConf.update(config, KEY, str(path.absolute()), force_add=True)
    OmegaConf.update(config, f"{KEY}_run", run.run_id, force_add=True)
    return run.run_id
