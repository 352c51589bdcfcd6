"""What the processes of a run that a starter began agree on before they train, and what the run says of their loss."""

from __future__ import annotations

import logging
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from lesion_exp.config.freeze import Job, read_job
from lesion_exp.config.project import Project
from lesion_exp.data.datamodule import LesionDataModule
from lesion_exp.errors import ConfigError, UserError
from lesion_exp.loss.base import is_mean_of_images
from lesion_exp.pretrain.method import Method
from lesion_exp.process.peer_heartbeats import PeerLost
from lesion_exp.process.peers import RUN, Peers
from lesion_exp.scheduler.schedule import ENDLESS
from lesion_exp.task import NetworkTask
from lesion_exp.tracking.embedded import DEAD_AFTER_SECONDS
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.heartbeat import HEARTBEAT_SECONDS, mark_dead_runs
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.stored_run import Run
from lesion_exp.training.checkpoint import resume_context
from lesion_exp.training.data import SplitData
from lesion_exp.training.layout import in_words, keeps_batches
from lesion_exp.training.run_context import RunContext
from lesion_exp.training.trainer import num_processes
from lesion_exp.version import __version__

log = logging.getLogger(__name__)

JOB: Final = "job"
"""What the first process tells the others: the job, or nothing if there is none."""


def shared_job(job: Job | None, peers: Peers) -> Job | None:
    """The job of the first process, in each; None if there is nothing to train.

    Raises:
        ConfigError: another process was given another job, or other versions run there.
    """

    def text() -> str:
        assert job is not None, "the first process knows the job"
        with tempfile.TemporaryDirectory(prefix="lesion_exp_job_") as folder:
            path = Path(folder) / "job.yaml"
            job.write(path)
            return path.read_text(encoding="utf-8")

    told = peers.tell(JOB, text)
    if not told:
        return None
    if job is None:
        with tempfile.TemporaryDirectory(prefix="lesion_exp_job_") as folder:
            path = Path(folder) / "job.yaml"
            path.write_text(told, encoding="utf-8")
            job = read_job(path)
    versions = {"lesion_exp": __version__, "torch": torch.__version__}
    peers.check_alike(
        "job and versions",
        {"job_hash": job.job_hash, **versions},
        "give each machine the same job=FILE and the same environment",
    )
    return job


def shared_context(job: Job, context: RunContext, peers: Peers) -> RunContext:
    """The context of the first process, in each; that of the run which processes of the same torchrun began before.

    Raises:
        ConfigError: that run has finished.
    """

    def text() -> str:
        known = peers.remembered(RUN) if context.continues is None else None
        if known is None:
            return context.to_json()
        run = closed_run(Project.from_config(job.config).opened(), known)
        if run.status == "FINISHED":
            raise ConfigError(
                f"expected a run that stopped, but {run.run_id} has finished; start torchrun anew to repeat it"
            )
        log.info("torchrun has started the processes again: run %s goes on", run.run_id)
        return resume_context(run, context).to_json()

    return RunContext.from_json(peers.tell("context", text))


def closed_run(project: Project, run_id: str) -> Run:
    """The run, as soon as it is not marked RUNNING any more: the process that wrote it is gone."""
    deadline = time.monotonic() + DEAD_AFTER_SECONDS + HEARTBEAT_SECONDS
    run = find_run(project.store, run_id)
    while run.status == "RUNNING" and time.monotonic() < deadline:
        time.sleep(1.0)
        mark_dead_runs(project.store)
        run = find_run(project.store, run_id)
    return run


def once_a_node(peers: Peers | None, make: Callable[[], SplitData]) -> SplitData:
    """What `make` gives the first process of a machine, on all processes of that machine.

    Raises:
        ConfigError: the machines have other data, or split them otherwise.
    """
    if peers is None:
        return make()
    found = make() if peers.per_node == 1 else _handed_over(peers, make)
    data = found.loaded.data
    peers.check_alike(
        "data",
        {"split_hash": found.split_hash, "dataset_fingerprint": data.total},
        "give each machine the same data set, and the same files that the job names",
    )
    return found


def _handed_over(peers: Peers, make: Callable[[], SplitData]) -> SplitData:
    """Hands the split over in a file that only this user may read, since a table may have 400,000 rows."""
    with tempfile.TemporaryDirectory(prefix="lesion_exp_split_") as folder:
        mine: list[SplitData] = []

        def write() -> str:
            mine.append(make())
            path = Path(folder) / "split.pickle"
            path.write_bytes(pickle.dumps(mine[0], protocol=pickle.HIGHEST_PROTOCOL))
            return str(path)

        path = Path(peers.tell_here("split", write))
        if mine:
            peers.wait_here("split")
            return mine[0]
        found: SplitData = pickle.loads(path.read_bytes())
        peers.wait_here("split")
        return found


@contextmanager
def watched(peers: Peers | None, run: TrackedRun | None) -> Iterator[None]:
    """Tells the run of the loss of another process, and keeps its id for processes that are started in their place."""
    if peers is None:
        yield
        return
    if run is not None:
        peers.remember(RUN, run.run_id)
    try:
        with peers.heartbeats.told_of_loss():
            yield
    except PeerLost as error:
        if run is not None:
            run.write_log(str(error.__notes__[0]))
            run.set_tags({"error": str(error.__notes__[0])})
        raise


@contextmanager
def on_each_machine(peers: Peers | None, key: str) -> Iterator[None]:
    """Says what to do if a machine beside the first does not find what every process reads in the store of runs.

    Args:
        peers: the processes of the run.
        key: the key of the config that names what is read.

    Raises:
        ConfigError: the block raises a UserError on another machine than the first.
    """
    try:
        yield
    except UserError as error:
        if peers is None or peers.node == 0:
            raise
        raise ConfigError(
            f"{error}; {key} is read on each machine, so that each has to reach the store of runs: start mlflow server "
            f"on one of them and set tracking.uri=http://HOST:5000, or train on one machine"
        ) from error


def prepare_layout(
    asked: Mapping[str, Any], config: Mapping[str, Any], task: NetworkTask, datamodule: LesionDataModule
) -> None:
    """Prepares the task for the batches of other processes than the job asks for, and says what will differ.

    Args:
        asked: the config of the processes that the job asks for.
        config: that of the processes of the run.
        task: what trains; a pretraining or a classifier.
        datamodule: its data.

    Raises:
        ConfigError: an epoch is shorter than a step, and cannot be dealt to so many processes.
    """
    wanted, num_here = (num_processes(one["trainer"]) for one in (asked, config))
    if wanted == num_here:
        return
    log.warning("%s", in_words(asked, config))
    task.asked_processes = wanted
    if keeps_batches(asked, num_here):
        task.job_processes = wanted
        return
    images = datamodule.images_per_epoch()
    if images < wanted * int(asked["loader"]["batch_size"]) and images % wanted != images % num_here:
        raise ConfigError(
            f"expected the {wanted} processes that the job asks for, since its epochs of {images} images are shorter "
            f"than a step and cannot be dealt to {num_here} in the same way; start {wanted}"
        )
    parts = list(task.modules())  # those of a method of pretraining, too
    loss = getattr(task, "loss", None)
    epochs = int(asked["trainer"]["max_epochs"] or ENDLESS)
    found = {
        "batch normalisation": any(isinstance(part, _BatchNorm) for part in parts)
        and not asked["trainer"].get("sync_batchnorm"),
        "dropout": any(isinstance(part, _DropoutNd) and part.p for part in parts),
        "stochastic depth": any(map(_drops_paths, parts)),
        "random numbers of the method": any(isinstance(part, Method) and part.draws_numbers for part in parts),
        "mixing": getattr(task, "mix", None) is not None,
        "the loss": loss is not None and not is_mean_of_images(loss, epochs),
        "weights of images": loss is not None and datamodule.weights() is not None,
    }
    names = [name for name, is_used in found.items() if is_used]
    if names:
        log.warning(
            "warning: %s: computed over the images of one process, of which there are %d now, not %d; the weights will "
            "not be those of the processes that the job asks for",
            " and ".join(names),
            config["loader"]["batch_size"],
            asked["loader"]["batch_size"],
        )


def _drops_paths(part: nn.Module) -> bool:
    """Whether `part` leaves out the branch of a block for a random share of the images, as torchvision and timm do."""
    return type(part).__name__ in {"StochasticDepth", "DropPath"} and bool(
        getattr(part, "p", 0.0) or getattr(part, "drop_prob", 0.0)
    )
