"""A job's run in MLflow: opened with its name, tags and config."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lesion_exp.job.data import SplitData
from lesion_exp.job.freeze import Job
from lesion_exp.job.link import NO_LINK, RunLink
from lesion_exp.tracking.environment import source_state
from lesion_exp.tracking.heartbeat import mark_dead_runs
from lesion_exp.tracking.note import choice_tags, run_name
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.store import Store, open_store

log = logging.getLogger(__name__)


def open_job_store(config: dict[str, Any]) -> Store:
    """The store that a job's config names; runs whose process died are marked in it."""
    paths = config["paths"]
    store = open_store(config["tracking"]["uri"], Path(paths["root"]), Path(paths["live"]))
    for run_id in mark_dead_runs(store):
        log.warning("run %s gave no sign of life for a minute and is marked KILLED", run_id)
    return store


def start_run(job: Job, split: SplitData, *, kind: str, link: RunLink = NO_LINK) -> TrackedRun:
    """A new run of `job`, with the tags that say what it was made from; use it as a context manager."""
    config = job.config
    tracking = config["tracking"]
    choices = job_choices(config)
    tags = {
        **choice_tags(choices),
        **source_state().tags(),
        "kind": kind,
        "job_hash": job.job_hash,
        "split_hash": split.split_hash,
        "dataset_fingerprint": split.loaded.fingerprint,
        "leaky": str(split.leaky).lower(),
        **{str(key): str(value) for key, value in config["tags"].items()},
        **link.tags,
    }
    return TrackedRun.start(
        open_job_store(config),
        tracking["experiment"],
        link.name or tracking["run_name"] or run_name(choices, config["seed"]),
        tags,
        config,
        flush_seconds=float(tracking["flush_seconds"]),
        flush_every=int(tracking["flush_every"]),
        system_metrics_seconds=float(tracking["system_metrics_seconds"]),
    )


def job_choices(config: dict[str, Any]) -> dict[str, str]:
    """The option of each config group that a person compares runs by."""
    backbone = config["backbone"]
    return {
        "dataset": config["dataset"]["name"],
        "backbone": str(backbone.get("name") or _option(backbone)),
        "sampler": _option(config["sampler"]),
        "loss": _option(config["loss"]),
        "split": _option(config["split"]),
    }


def _option(node: dict[str, Any]) -> str:
    """The file that a node's target lies in has the name of its option."""
    return str(node["_target_"]).rpartition(".")[0].rpartition(".")[2]
