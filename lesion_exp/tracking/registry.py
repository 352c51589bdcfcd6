"""Registers runs as versions of models in MLflow's registry, with aliases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lesion_exp.errors import ConfigError
from lesion_exp.tracking.stored_run import Run

_TAKEN: Final = re.compile(r"latest|[0-9a-f]{4,32}|best:.*|.*\.(ckpt|zip|safetensors)|v\d+", re.IGNORECASE)
"""Names that have another meaning after `run=`, or in MLflow."""
_ALIAS: Final = re.compile(r"[\w-]+")
_NOT_IN_NAMES: Final = re.compile(r"[/:]")


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    run_id: str
    alias: str | None
    before: str | None
    """The version that had the alias before, if any."""
    is_new: bool
    """Whether the version has just been created."""

    @property
    def uri(self) -> str:
        """The URI of the version for MLflow's functions and commands."""
        return f"models:/{self.name}@{self.alias}" if self.alias else f"models:/{self.name}/{self.version}"


def check_names(name: str | None, alias: str | None) -> None:
    """Checks the name of a registered model, and the alias of one of its versions, as far as they are given.

    Raises:
        ConfigError: MLflow or `run=` would not understand the name or the alias.
    """
    if name is not None and (_NOT_IN_NAMES.search(name) or not name.strip() or "@" in name):
        raise ConfigError(f"expected a name without / : and @, got name={name}; for example name=lesions")
    if alias is not None and (_TAKEN.fullmatch(alias) or not _ALIAS.fullmatch(alias)):
        raise ConfigError(
            f"expected an alias of letters, digits, - and _ that means nothing else after run=, got alias={alias}; "
            f"for example alias=champion"
        )


def register(run: Run, model: str, name: str | None, alias: str | None, tags: Mapping[str, str]) -> Registered:
    """Registers the artifact folder `model` of `run` as a version of a registered model, unless it is one already.

    Args:
        run: a finished run.
        model: the artifact folder of its MLflow model.
        name: name of the registered model; None is the name of the run's experiment.
        alias: alias that is set to this version, if given.
        tags: tags of a new version.

    Raises:
        ConfigError: see `check_names`.
    """
    from mlflow.exceptions import MlflowException

    check_names(name, alias)
    client = run.store.client
    if name is None:
        name = _NOT_IN_NAMES.sub("_", client.get_experiment(run.experiment_id).name)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = _version_of(run, name)
    version = found or str(
        client.create_model_version(
            name, f"runs:/{run.run_id}/{model}", run.run_id, tags=dict(tags), description=run.name
        ).version
    )
    before = None
    if alias is not None:
        before = client.get_registered_model(name).aliases.get(alias)
        client.set_registered_model_alias(name, alias, version)
    return Registered(name, version, run.run_id, alias, None if before is None else str(before), found is None)


def _version_of(run: Run, name: str) -> str | None:
    """Returns the newest version of the model `name` that belongs to `run`."""
    quote = '"' if "'" in name else "'"
    found = run.store.client.search_model_versions(f"name = {quote}{name}{quote} and run_id = '{run.run_id}'")
    return max((str(version.version) for version in found), key=int, default=None)
