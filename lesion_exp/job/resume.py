"""Goes on with a run that stopped before its end, as the same run in MLflow."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lesion_exp.errors import ConfigError
from lesion_exp.job.checkpoint import newest_checkpoint
from lesion_exp.job.freeze import Job, read_job
from lesion_exp.job.link import RunLink
from lesion_exp.job.run import JobResult, train
from lesion_exp.tracking.find import Run, download_artifact


def resume(run: Run, paths: Mapping[str, Any], data_root: Path | None = None) -> JobResult:
    """Trains the rest of `run` and evaluates it; `paths` are those of this machine, `data_root` where the data lie now.

    Without a checkpoint, training begins at its first step. On a CPU the final weights are, bit for bit, those of a run
    that was never stopped.

    Raises:
        ConfigError: the run has finished, is alive, or is none that was trained here.
        DataError: its data are no longer what they were.
    """
    if run.status == "FINISHED":
        raise ConfigError(
            f"expected a run that stopped, but {run.run_id} has finished; lesion-exp reproduce run={run.run_id} trains "
            f"it once more"
        )
    if run.tags.get("kind") != "train":
        raise ConfigError(f"expected a run that trains, got {run.run_id} of kind {run.tags.get('kind', 'unknown')}")
    job = read_job(download_artifact(run, "config/job.yaml"))
    checkpoint = newest_checkpoint(run.live_dir)
    link = RunLink(continues=run.run_id, checkpoint=None if checkpoint is None else str(checkpoint))
    return train(moved(job, run.store.uri, paths, {} if data_root is None else {"dataset.root": data_root}), link)


def moved(job: Job, store_uri: str, paths: Mapping[str, Any], places: Mapping[str, Path]) -> Job:
    """`job` with the folders `paths` and the store of this machine; `places` says where files of keys lie now.

    Such keys are `dataset.root`, `dataset.sets.NAME`, and those whose file the job knows by its content (`split.path`,
    `backbone.weights`). None of them counts in the job's hash.

    Raises:
        ConfigError: the job has no file or folder of that key.
    """
    config = copy.deepcopy(job.config)
    root, cache = config["dataset"].get("root"), config["paths"]["data_cache"]
    if root is not None and Path(root).is_relative_to(cache):  # generated images: made anew where they are missing
        config["dataset"]["root"] = str(Path(paths["data_cache"]) / Path(root).relative_to(cache))
    config["paths"] = dict(paths)
    config["tracking"]["uri"] = store_uri
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
