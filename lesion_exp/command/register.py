"""The verb `register`: puts a run's model into MLflow's registry, under a name and an alias."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from lesion_exp.command.arguments import Arguments, open_project
from lesion_exp.command.chosen_run import ChosenRun, chosen_run
from lesion_exp.errors import ConfigError
from lesion_exp.option import Kind, option
from lesion_exp.terminal import say

if TYPE_CHECKING:
    from lesion_exp.tracking.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RegisterOptions:
    """The options of `register` beside its run."""

    alias: str | None = option(
        None,
        Kind("ALIAS", "champion", "a name"),
        "name by which every verb finds the run from now on: run=champion",
    )
    name: str | None = option(
        None,
        Kind("NAME", "lesions", "a name"),
        "name of the registered model; without it, the name of the run's experiment",
    )


def register(arguments: Arguments) -> int:
    """Prints the model's URI on standard output, or one JSON object."""
    spec, wanted = arguments.read(ChosenRun).run, arguments.read(RegisterOptions)
    project = open_project(arguments)
    run = chosen_run(project.store, spec)
    from lesion_exp.model.mlflow_model import MODEL
    from lesion_exp.tracking.registry import check_names
    from lesion_exp.tracking.registry import register as register_run
    from lesion_exp.trained_runs.backfill import ensure_model

    check_names(wanted.name, wanted.alias)
    ensure_model(run, project)
    leaky = run.tags.get("leaky", "false")
    if leaky == "true":
        log.warning("the run is leaky: its results do not hold for new images; the version gets the tag leaky=true")
    done = register_run(run, MODEL, wanted.name, wanted.alias, {"leaky": leaky, "dataset": run.tags.get("dataset", "")})
    state = "registered" if done.is_new else "was registered before"
    say(f"run {run.run_id} ({run.name}) {state} as version {done.version} of {done.name}", sys.stderr)
    if done.alias and done.before != done.version:
        moved = f" instead of version {done.before}" if done.before else ""
        say(f"run={_shortest(project.store, done.name, done.alias)} now names this run{moved}", sys.stderr)
    print(json.dumps({**asdict(done), "uri": done.uri}) if arguments.json else done.uri)
    return 0


def _shortest(store: Store, name: str, alias: str) -> str:
    """The alias, preceded by the name of its model if another model has the same alias."""
    from lesion_exp.tracking.find import find_run

    try:
        find_run(store, alias)
    except ConfigError:
        return f"{name}@{alias}"
    return alias
