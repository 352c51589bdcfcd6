"""Adapts a job to another machine, or to another folder, than the one where it was frozen."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lesion_exp.config.freeze import Job
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError
from lesion_exp.tracking.credentials import address


def relocated(job: Job, project: Project, places: Mapping[str, Path]) -> Job:
    """Returns `job` with the folders and the store of `project`.

    Args:
        job: any job; its hash does not change.
        project: the project in which the job is to run.
        places: new paths by key: `dataset.root`, `dataset.sets.NAME`, or a key whose file the job knows by its content
            (`split.path`, `backbone.weights`).

    Raises:
        ConfigError: a key in `places` names no file or folder of the job.
    """
    config = copy.deepcopy(job.config)
    root, cache = config["dataset"].get("root"), config["paths"]["data_cache"]
    if root is not None and Path(root).is_relative_to(cache):  # generated images
        config["dataset"]["root"] = str(project.data_cache / Path(root).relative_to(cache))
    config["paths"] = project.as_paths()
    config["tracking"]["uri"] = None if project.store_uri is None else address(project.store_uri)
    for key, place in places.items():
        *parents, leaf = key.split(".")
        node: Any = config
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None
        is_place = key in job.files or key == "dataset.root" or parents == ["dataset", "sets"]
        if not is_place or not isinstance(node, dict) or leaf not in node:
            raise ConfigError(f"expected a key whose file or folder this job reads, got {key}={place}; leave it out")
        if isinstance(node[leaf], dict):
            node, leaf = node[leaf], "root"
        node[leaf] = str(place.expanduser().absolute())
    return replace(job, config=config)
