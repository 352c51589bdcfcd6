"""A project: the folder in which a user works, and where its commands keep what they make on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # MLflow is imported when the store is opened
    from lesion_exp.tracking.store import Store


@dataclass(frozen=True)
class Project:
    """The folders of a project and its store of runs.

    Args:
        root: where relative paths begin; the checkout when a command runs inside one, else the current folder.
        data_cache: prepared images, shared by all runs.
        live: checkpoints of runs that have not finished, a folder a run.
        jobs: frozen configs of jobs.
        sweeps: ledgers of sweeps, a folder a sweep.
        store_uri: of the store; None is the embedded one below `root`, or the one that MLFLOW_TRACKING_URI names.
    """

    root: Path
    data_cache: Path
    live: Path
    jobs: Path
    sweeps: Path
    store_uri: str | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Project:
        """The project that the nodes `paths` and `tracking` of a job's config, or of a sweep's ledger, describe."""
        paths = config["paths"]
        root = Path(paths["root"])
        folders = {name: Path(paths.get(name, root / name)) for name in ("data_cache", "live", "jobs", "sweeps")}
        return cls(root, **folders, store_uri=config["tracking"]["uri"])

    def as_paths(self) -> dict[str, str]:
        """The folders as the node `paths` of a config."""
        return {name: str(getattr(self, name)) for name in ("root", "data_cache", "live", "jobs", "sweeps")}

    def opened(self) -> Project:
        """The same project, after its store has been opened: a wrong address is told before anything else is done."""
        _ = self.store
        return self

    @cached_property
    def store(self) -> Store:
        """The store of runs. When it is first asked for, what dead processes left in it is put in order.

        Raises:
            ConfigError: it cannot be opened.
        """
        from lesion_exp.tracking.heartbeat import clear_finished, mark_dead_runs
        from lesion_exp.tracking.store import open_store

        store = open_store(self.store_uri, self.root, self.live)
        mark_dead_runs(store)
        clear_finished(store)
        return store
