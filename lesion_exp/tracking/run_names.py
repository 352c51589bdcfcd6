"""Checks that an embedded store has the runs that a command names, without MLflow, whose import takes seconds."""

from __future__ import annotations

import difflib
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

from lesion_exp.errors import ConfigError, first_cases, nearest
from lesion_exp.privacy import without_secrets

ORIGIN_TAG: Final = "bundle_run_id"
"""Tag of an imported run with its id in the store where it was trained."""
SHORTEST_PREFIX: Final = 4
"""Smallest number of characters with which the beginning of an id names a run, or a sweep."""
RECENT: Final = 200
"""Number of the latest runs among which similar names are searched."""
SWEEPS_LISTED: Final = 5
"""Number of sweeps that a message about an unknown one lists."""
ACTIVE: Final = (
    "runs JOIN experiments USING (experiment_id) WHERE runs.lifecycle_stage = 'active' "
    "AND experiments.lifecycle_stage = 'active'"
)
"""What follows FROM in a query about the runs that are not deleted."""
_BEGINS_ID: Final = (
    f"SELECT 1 FROM {ACTIVE} AND substr(run_uuid, 1, :length) = lower(:name) "
    "UNION ALL SELECT 1 FROM tags WHERE key IN (:origin, 'sweep_id') "
    "AND lower(substr(value, 1, :length)) = lower(:name) LIMIT 1"
)
_IS_ALIAS: Final = "SELECT 1 FROM registered_model_aliases WHERE alias = ? LIMIT 1"
_LATEST_SWEEPS: Final = (
    "SELECT (SELECT value FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = 'sweep_id'), run_uuid, runs.name "
    f"FROM {ACTIVE} AND EXISTS "
    "(SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = 'kind' AND value = 'sweep') "
    f"ORDER BY start_time DESC LIMIT {SWEEPS_LISTED}"
)


class KnownRun(NamedTuple):
    """The facts about a run that a message shows."""

    run_id: str
    status: str
    name: str


def check_names(database: Path, names: Sequence[str]) -> None:
    """Checks that each of `names` may name a run of the embedded store in `database`; nothing is created or changed.

    `find_run` decides what a name means. This function leaves `best:METRIC` and files to it, and all names if the
    database cannot be read at the moment.

    Args:
        database: an SQLite file of MLflow, which need not exist.
        names: the names that the user typed after `run=`.

    Raises:
        ConfigError: the store has no run, or no run with that name.
    """
    wanted = [part.strip() for name in names for part in name.removeprefix("folds:").strip("[]").split(",")]
    wanted = [name for name in wanted if not os.path.isfile(os.path.expanduser(name))]  # noqa: PTH111, PTH113 - never raise
    if wanted and not database.exists():
        raise ConfigError(no_run(f"sqlite:///{database}"))
    with suppress(sqlite3.Error), closing(read_only(database)) as store:
        for name in wanted:
            if not store.execute(f"SELECT 1 FROM {ACTIVE} LIMIT 1").fetchone():
                raise ConfigError(no_run(f"sqlite:///{database}"))
            if "@" in name:
                _check_alias(store, name)
            judged_later = name == "latest" or name.startswith("best:") or "@" in name
            if judged_later or _begins_id(store, name) or store.execute(_IS_ALIAS, (name,)).fetchone():
                continue
            query = f"SELECT run_uuid, status, runs.name FROM {ACTIVE} ORDER BY start_time DESC LIMIT {RECENT}"
            recent = [KnownRun(*map(str, row)) for row in store.execute(query)]
            raise ConfigError(unknown_run(f"sqlite:///{database}", name, recent))


def _begins_id(store: sqlite3.Connection, name: str) -> bool:
    """Returns whether `name` is the id of a run or a sweep, or the beginning of one that is long enough."""
    given = {"name": name, "length": len(name), "origin": ORIGIN_TAG}
    return len(name) >= SHORTEST_PREFIX and store.execute(_BEGINS_ID, given).fetchone() is not None


def _check_alias(store: sqlite3.Connection, spec: str) -> None:
    known = [f"{model}@{alias}" for model, alias in store.execute("SELECT name, alias FROM registered_model_aliases")]
    if spec not in known:
        raise ConfigError(unknown_alias(spec, known))


def check_sweep(database: Path, name: str) -> None:
    """Checks that `name` may name a sweep with a run in the embedded store in `database`, as `check_names` checks runs.

    `find_swept` decides what a name means. It alone judges `latest`.

    Raises:
        ConfigError: the store has no sweep with that name.
    """
    sweeps: list[tuple[str | None, str, str]] = []
    if name == "latest":
        return
    if database.exists():
        try:
            with closing(read_only(database)) as store:
                if _begins_id(store, name):
                    return
                sweeps = store.execute(_LATEST_SWEEPS).fetchall()
        except sqlite3.Error:
            return
    raise ConfigError(unknown_sweep(f"sqlite:///{database}", name, 0, sweeps))


def unknown_sweep(uri: str, name: str, num_matches: int, sweeps: Sequence[tuple[str | None, str, str]]) -> str:
    """Returns the message about `name`, which names none or several of the sweeps of the store at `uri`.

    Args:
        uri: address of the store.
        name: what the user typed.
        num_matches: how many sweeps it names.
        sweeps: for the message, of each sweep its id, the id of its run, and the name of its run.
    """
    listed = "\n".join(f"  {sweep_id}  {run_id}  {run_name}" for sweep_id, run_id, run_name in sweeps[:SWEEPS_LISTED])
    return (
        f"expected a sweep's id, its run's id, the beginning of one (at least {SHORTEST_PREFIX} letters), or "
        f"latest; {name!r} names {num_matches} sweeps in {without_secrets(uri)}:\n{listed or '  there are no sweeps'}"
    )


def read_only(database: Path, timeout: float = 1.0) -> sqlite3.Connection:
    """Returns a connection to `database` that changes nothing; it waits `timeout` seconds for a writer."""
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=timeout)


def no_run(uri: str) -> str:
    """Returns the message about a store without any run."""
    return (
        f"expected a run in {without_secrets(uri)}; it has none yet. Train one, give the command in the folder of the "
        f"project that has the run (or set paths.root=DIR), or check tracking.uri."
    )


def unknown_alias(spec: str, known: Sequence[str]) -> str:
    """Returns the message about `spec`, which is none of the `known` aliases, each as `model@alias`."""
    return f"expected a registered model and its alias, got {spec!r}; {nearest(spec, known)}"


def unknown_run(uri: str, name: str, recent: Sequence[KnownRun]) -> str:
    """Returns the message about `name`, which names no run of the store at `uri`.

    Args:
        uri: address of the store.
        name: the name that the user typed.
        recent: the latest runs of the store, the newest first.
    """
    named = [run for run in recent if run.name == name]
    ids = {run.run_id[: max(len(name), SHORTEST_PREFIX)]: run for run in recent}
    near = named or [ids[match] for match in difflib.get_close_matches(name.lower(), ids, cutoff=0.7)] or recent[:5]
    listed = first_cases("  ".join(run) for run in near) or "  none yet"
    title = "Runs of that name" if named else "Similar ids" if near != recent[:5] else "The latest runs"
    return (
        f"expected a run id, a prefix of at least {SHORTEST_PREFIX} letters, latest, best:<metric> or a registered "
        f"alias; got {name!r}. {title} in {without_secrets(uri)}:\n{listed}"
    )
