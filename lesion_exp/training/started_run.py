"""The start of every job that trains: which rank logs, what the checks found, and the run with its inputs."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from lesion_exp.config.freeze import Job
from lesion_exp.config.project import Project
from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.model.precision import has_gpu
from lesion_exp.process.other_programs import OtherPrograms
from lesion_exp.process.signals import preserve_stop_signals
from lesion_exp.progress import Stage
from lesion_exp.task import NetworkTask
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import PRETRAINING
from lesion_exp.training.data import SplitData, is_pretraining
from lesion_exp.training.lineage import seen_by_lineage
from lesion_exp.training.results import log_inputs
from lesion_exp.training.run_context import RUN_FILE, RunContext
from lesion_exp.training.seen_before import Inherited, log_inherited
from lesion_exp.training.tracked import log_hint, start_run
from lesion_exp.training.trainer import describe_resolved, num_processes

log = logging.getLogger(__name__)

_INPUTS_TAG: Final = "mlflow.inputs"
"""Tag of a run whose data, split and environment are logged; MLflow's page hides tags that begin with mlflow."""


def store_of_first_rank(config: Mapping[str, Any]) -> Store | None:
    """Returns the store in which the first rank logs the run of the job `config`; None for every other rank.

    It is opened before data are read, because its address may be wrong.

    Raises:
        ConfigError: the store cannot be opened.
    """
    is_first = os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"
    if not is_first:
        return None
    with Stage("opening the store of runs", background=True):
        return Project.from_config(config).store


@dataclass(frozen=True)
class Findings:
    """What is known of a job's split before the network is made."""

    split: SplitData
    inherited: Inherited | None
    """What the initial weights have seen."""
    text: str
    """The audit and the warnings of the checks, for the log of the run."""


def say_findings(split: SplitData, inherited: Inherited | None, warnings: Sequence[str]) -> Findings:
    """Shows the `warnings` of the checks and the audit of `split`, and returns them for the run."""
    audit, told = split.audit.summary(), [f"warning: {text}" for text in warnings]
    for text in told:
        log.warning("%s", text)
    for line in audit.splitlines():
        log.info("%s", line)
    return Findings(split, inherited, "\n".join([audit, *told]))


def beside_others(node: Mapping[str, Any], others: OtherPrograms) -> list[str]:
    """Returns the warning of other busy programs where one process trains on the CPU; `node` is the node `trainer`."""
    if has_gpu(node["accelerator"]) or num_processes(node) > 1:
        return []
    text = others.warning(torch.get_num_threads())
    return [] if text is None else [text]


@contextmanager
def started_run(
    store: Store | None,
    job: Job,
    context: RunContext,
    findings: Findings,
    task: NetworkTask,
    datamodule: LesionDataModule,
) -> Iterator[tuple[TrackedRun | None, Path]]:
    """Starts the run of `job`, or resumes the one that `context` continues, and logs its inputs.

    Gives the run and the folder of its checkpoints; without a `store`, None and a folder that is removed afterwards.

    Every checkpoint of `task` names the run.

    Raises:
        DataError: see `start_run`.
    """
    if store is None:
        with tempfile.TemporaryDirectory(prefix="lesion_exp_rank_") as folder:
            yield None, Path(folder)
        return
    config, split = job.config, findings.split
    pretrains = is_pretraining(config)
    kind = PRETRAINING if pretrains else "train"
    with Stage("starting the run in the store", background=True):
        started = start_run(store, job, split, kind=kind, context=context)
    with started as run, log_hint(run, job), preserve_stop_signals():
        if context.pruning_dir is not None:
            (Path(context.pruning_dir) / RUN_FILE).write_text(run.run_id, encoding="utf-8")
        run.write_log(findings.text)
        num_weights = sum(weights.numel() for weights in task.backbone.parameters())
        run.log_params({"resolved": {**describe_resolved(config["trainer"]), "parameters": num_weights}})
        if _INPUTS_TAG not in run.tags_at_start:
            with Stage("logging the split, the environment and examples"):
                log_inputs(run, config, split, datamodule, context.own_code)
                log_inherited(run, findings.inherited, None if pretrains else seen_by_lineage(config, split))
            run.set_tags({_INPUTS_TAG: "logged"})
        task.sign(run.run_id)
        yield run, run.live_dir
