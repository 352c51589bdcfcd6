"""A job's run in MLflow: opened with its name, tags and config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lesion_exp.errors import DataError
from lesion_exp.job.data import SplitData
from lesion_exp.job.freeze import Job
from lesion_exp.job.link import NO_LINK, RunLink
from lesion_exp.tracking.environment import source_state
from lesion_exp.tracking.find import Run, find_run
from lesion_exp.tracking.heartbeat import mark_dead_runs
from lesion_exp.tracking.note import choice_tags, run_name
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.store import Store, open_store


def open_job_store(config: dict[str, Any]) -> Store:
    """The store that a job's config names; runs whose process died are marked in it."""
    paths = config["paths"]
    store = open_store(config["tracking"]["uri"], Path(paths["root"]), Path(paths["live"]))
    mark_dead_runs(store)
    return store


def start_run(store: Store, job: Job, split: SplitData, *, kind: str, link: RunLink = NO_LINK) -> TrackedRun:
    """A new run of `job`, or the one that `link` continues, with the tags that say what it was made from.

    Use it as a context manager. The frozen job is logged first, so that the run can be resumed from then on.

    Raises:
        DataError: the run that `link` continues was trained on other data or another split.
    """
    config = job.config
    tracking = config["tracking"]
    choices = job_choices(config)
    made_from = {"split_hash": split.split_hash, "dataset_fingerprint": split.loaded.fingerprint}
    options: dict[str, Any] = {
        "flush_seconds": float(tracking["flush_seconds"]),
        "flush_every": int(tracking["flush_every"]),
        "system_metrics_seconds": float(tracking["system_metrics_seconds"]),
    }
    if link.continues is not None:
        check_same_data(find_run(store, link.continues), made_from)
        return TrackedRun.resume(store, link.continues, **options)
    tags = {
        **choice_tags(choices),
        **source_state().tags(),
        **made_from,
        "kind": kind,
        "job_hash": job.job_hash,
        "leaky": str(split.leaky).lower(),
        **{str(key): str(value) for key, value in config["tags"].items()},
        **link.tags,
    }
    name = str(link.name or tracking["run_name"] or run_name(choices, config["seed"], config["split"].get("fold")))
    run = TrackedRun.start(store, tracking["experiment"], name, tags, **options)
    try:
        with run.new_file("config/job.yaml") as path:
            job.write(path)
        run.log_text("".join(f"{override}\n" for override in job.overrides), "config/overrides.txt")
        run.log_params(config)
        run.log_params(choice_tags(choices))  # short names, for the page's parallel coordinates
    except BaseException as error:
        run.__exit__(type(error), error, error.__traceback__)
        raise
    return run


def check_same_data(run: Run, made_from: Mapping[str, str]) -> None:
    """Nothing, if `run` has the tags `split_hash` and `dataset_fingerprint` of `made_from`.

    Raises:
        DataError: it was made from something else.
    """
    for tag, found in made_from.items():
        before = run.tags.get(tag)
        if before != found:
            raise DataError(
                f"expected the data that run {run.run_id} was started on ({tag} {before}), got {found}: files, labels "
                f"or their readability have changed; put them back, or train anew"
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
