"""A project: the folder in which a user works, with the folders and the store of runs that its commands write to."""

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
        root: the checkout when a command runs inside one, else the current folder.
        data_cache: folder of prepared images, shared by all runs.
        live: folder of the checkpoints of runs that have not finished, with a subfolder for each run.
        jobs: folder of frozen jobs.
        sweeps: folder of the ledgers of sweeps, with a subfolder for each sweep.
        store_uri: address of the store of runs; None is the store that MLFLOW_TRACKING_URI names, else the embedded one
            below `root`.
    """

    root: Path
    data_cache: Path
    live: Path
    jobs: Path
    sweeps: Path
    store_uri: str | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Project:
        """Returns the project that the nodes `paths` and `tracking` of `config` (of a job or a sweep) describe."""
        paths = config["paths"]
        root = Path(paths["root"])
        # jobs of earlier versions lack some of the folders
        folders = {name: Path(paths.get(name, root / name)) for name in ("data_cache", "live", "jobs", "sweeps")}
        return cls(root, **folders, store_uri=config["tracking"]["uri"])

    def as_paths(self) -> dict[str, str]:
        """Returns the folders by their keys, as the node `paths` of a config."""
        return {name: str(getattr(self, name)) for name in ("root", "data_cache", "live", "jobs", "sweeps")}

    def opened(self) -> Project:
        """Opens the store, so that a wrong address is reported before any other work, and returns the project."""
        _ = self.store
        return self

    @cached_property
    def store(self) -> Store:
        """The store of runs, opened when it is first read.

        Runs whose process is gone are then marked KILLED, and the live folders of finished runs are removed.

        Raises:
            ConfigError: the store cannot be opened.
        """
        from lesion_exp.tracking.heartbeat import clear_finished, mark_dead_runs
        from lesion_exp.tracking.store import open_store

        store = open_store(self.store_uri, self.root, self.live)
        mark_dead_runs(store)
        clear_finished(store)
        return store
