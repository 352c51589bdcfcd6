"""The environment variables by which a process knows that it is one of several that train together.

`torchrun` and `srun` set them for the processes that they start. They also stay behind: in shells, in batch scripts, in
notebooks. This module alone decides what they mean; Lightning's own guesses are switched off in `training/trainer.py`.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lesion_exp.cores import SHARE, usable_cores
from lesion_exp.errors import ConfigError

log = logging.getLogger(__name__)

RANK_VARIABLES: Final = (
    "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE",
    "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_USE_AGENT_STORE", "ROLE_RANK", "ROLE_WORLD_SIZE",
)  # fmt: skip
"""Variables that torchrun sets for each process, and Lightning for the processes that it starts.

TORCHELASTIC_USE_AGENT_STORE tells torch that torchrun hosts the store; left behind, torch would wait for it in vain.
"""
TASK_VARIABLES: Final = (
    "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_STEP_ID", "SLURM_STEPID",
    "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
    "PMI_RANK", "PMI_SIZE",
)  # fmt: skip
"""Variables that srun and mpirun set for each process."""
_POLL_SECONDS: Final = 0.1
_MPI_SIZES: Final = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_SPECIAL_STEPS: Final = 2**31
"""SLURM's steps for batch scripts and interactive shells have ids above it; srun counts its steps from 0."""


@dataclass(frozen=True)
class RankGroup:
    """A group of processes that were started together, and the rank of this one."""

    text: str
    """The variables that describe the group, in the notation of a shell."""
    world_size: int
    rank: int
    local_rank: int
    address: str | None
    port: int | None
    local_size: int | None = None
    """Number of processes on each machine; None if the starter does not say it, or the machines differ."""

    def check_fits(self, num_devices: int, num_nodes: int) -> None:
        """Checks that the group is the one that a job on `num_devices` of each of `num_nodes` machines asks for.

        Raises:
            ConfigError: another number of processes, or a starter that gives no address to meet at.
        """
        wanted = num_devices * num_nodes
        job = f"{wanted} process{'es' if wanted > 1 else ''} (trainer.devices={num_devices}"
        job += f" trainer.num_nodes={num_nodes})" if num_nodes > 1 else ")"
        fits = self.world_size == wanted and self.rank < wanted and self.local_rank == self.rank % num_devices
        fits = fits and self.local_size in (None, num_devices)
        if not fits:
            raise ConfigError(
                f"expected to be one of the {job} that the job asks for, but the environment says {self.text}; start "
                f"{wanted}{self._where(num_devices, num_nodes)}, or set trainer=ddp or ddp_cpu with "
                f"{self._as_keys(num_nodes)}; if neither torchrun nor srun started this process, type: unset "
                f"{' '.join(self.names())}"
            )
        self._check_address()

    def _where(self, num_devices: int, num_nodes: int) -> str:
        """Where to start the processes of a job, if the group is on other machines than it asks for."""
        if num_nodes > 1:
            return f", {num_devices} on each of {num_nodes} machines"
        return " on one machine" if self.local_size is not None and self.world_size > self.local_size else ""

    def _as_keys(self, num_nodes: int) -> str:
        """The keys of a job that asks for this group; of one on `num_nodes` machines if the starter says too little."""
        size = self.local_size
        if size is None or self.world_size % size or self.local_rank != self.rank % size:
            return f"trainer.devices={max(self.world_size // num_nodes, 1)}"
        count = self.world_size // size
        return f"trainer.devices={size}" + (f" trainer.num_nodes={count}" if (count, num_nodes) != (1, 1) else "")

    def check_even(self) -> tuple[int, int]:
        """Checks that each machine has as many processes of the group, and returns this number and that of machines.

        Raises:
            ConfigError: it has not, or the starter gives no address to meet at.
        """
        size = self.local_size
        if size is None or self.world_size % size or self.local_rank != self.rank % size:
            raise ConfigError(
                f"expected the same number of processes on each machine, numbered machine by machine, got {self.text}; "
                f"give torchrun --nproc-per-node, or srun --ntasks-per-node and --distribution=block"
            )
        self._check_address()
        return size, self.world_size // size

    def check_chosen(self, processes: tuple[int, int]) -> None:
        """Checks that the group has the processes on each machine, and the machines, on which a run is to go on.

        Raises:
            ConfigError: it has others.
        """
        started = self.check_even()
        if started != processes:
            raise ConfigError(
                f"expected trainer.devices={processes[0]}, that is {processes[0] * processes[1]} process(es) on one "
                f"machine, got {started[0]} process(es) on each of {started[1]} machine(s) from the starter "
                f"({self.text}); leave trainer.devices out, since the run goes on with all processes that were started"
            )

    def _check_address(self) -> None:
        if self.address is None or self.port is None:
            size = self.local_size or self.world_size
            raise ConfigError(
                f"expected torchrun or srun as the starter of {self.world_size} processes, got {self.text}, which "
                f"gives no address at which the processes meet; start one process, which starts the others, or type: "
                f"torchrun --nproc-per-node={size} -m lesion_exp train ..."
            )

    def names(self) -> list[str]:
        """Returns the names of these variables."""
        return [word.partition("=")[0] for word in self.text.split()]

    def enter(self, num_devices: int) -> None:
        """Makes this process a rank of the group, by setting the variables that Lightning reads."""
        os.environ.update(
            RANK=str(self.rank),
            LOCAL_RANK=str(self.local_rank),
            NODE_RANK=str(self.rank // num_devices),
            WORLD_SIZE=str(self.world_size),
            MASTER_ADDR=str(self.address),
            MASTER_PORT=str(self.port),
        )


def join_group(num_devices: int, num_nodes: int, *, any_number: bool = False) -> RankGroup | None:
    """Makes this process the rank that its environment describes, or a process without a rank.

    A group of several processes is joined if it fits a job on `num_devices` of each of `num_nodes` machines; it is then
    returned. A group of one, and variables that describe no process, are ignored and removed, with a warning where
    that matters; None is returned.

    With `any_number`, a group of any world size is joined, also one process that torchrun started for a job of several:
    the run may be one that goes on with other processes than it began with. One task of srun is not such a group: SLURM
    gives each command one, which starts the processes that the job asks for.

    Raises:
        ConfigError: the group contradicts the job; a job on several machines has no group; or, with `any_number`, the
            machines have different numbers of processes.
    """
    group = inherited_group(os.environ)
    is_alone = group is not None and group.world_size == 1
    if group is not None and any_number and not (is_alone and (num_devices * num_nodes == 1 or not may_start_again())):
        group.enter(group.check_even()[0])
        return group
    if group is not None and group.world_size > 1:
        group.check_fits(num_devices, num_nodes)
        group.enter(num_devices)
        return replace(group, local_size=num_devices)
    if num_nodes > 1:
        raise ConfigError(
            f"expected torchrun or srun to start the processes of trainer.num_nodes={num_nodes}, but this process was "
            f"started without them; type on each machine: torchrun --nnodes={num_nodes} --nproc-per-node={num_devices} "
            f"--rdzv-backend=c10d --rdzv-endpoint=HOST:29500 -m lesion_exp {'resume' if any_number else 'train'} ..."
            f"{'; trainer.devices=N resumes the run with N processes on this machine' if any_number else ''}"
        )
    tasks = os.environ.get("SLURM_NTASKS")
    if num_devices > 1 and tasks is not None:
        log.warning("SLURM_NTASKS=%s is ignored: this process starts the job's %d processes itself", tasks, num_devices)
    ignore_leftovers()
    return None


def is_follower() -> bool:
    """Returns whether this process is one of several that a starter began, and not the first of them."""
    group = inherited_group(os.environ)
    return group is not None and group.rank > 0


def may_start_again() -> bool:
    """Returns whether torchrun started this process, which may start others in its place when one of them is lost."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def ignore_leftovers(*, keep_one: bool = False) -> None:
    """Removes rank variables that describe no group of several processes from the environment, with a warning.

    With `keep_one`, those of one process that torchrun started are kept: a run may go on with it.
    """
    group = inherited_group(os.environ)
    if group is not None and (group.world_size > 1 or (keep_one and may_start_again())):
        return
    left = [f"{name}={os.environ.pop(name)}" for name in RANK_VARIABLES if name in os.environ]
    if left and group is None:
        log.warning(
            "ignored variables that neither torchrun nor srun set for this process: %s",
            " ".join(left),
        )


def refuse_group(work: str) -> None:
    """Checks that this process is not one of several that were started together; `work` is what one process does.

    Raises:
        ConfigError: it is one of several, each of which would do the work.
    """
    group = inherited_group(os.environ)
    if group is not None and group.world_size > 1:
        raise ConfigError(
            f"expected one process for {work}, but it was started {group.world_size} times ({group.text}); start it "
            f"once, without torchrun or srun --ntasks; it starts the processes that it needs"
        )


def environment_without_rank() -> dict[str, str]:
    """Returns the environment of this process without its rank, for a child process that is not part of the group."""
    return {name: text for name, text in os.environ.items() if name not in {*RANK_VARIABLES, *TASK_VARIABLES}}


def inherited_group(environment: Mapping[str, str]) -> RankGroup | None:
    """Returns the group of processes that `environment` describes; None if it describes none."""
    return _of_torchrun(environment) or _of_srun(environment) or _of_mpirun(environment)


def _of_torchrun(environment: Mapping[str, str]) -> RankGroup | None:
    names = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT")
    numbers = [_number(environment.get(name)) for name in names]
    address = environment.get("MASTER_ADDR")
    if address is None or None in numbers:
        return None
    world_size, rank, local_rank, port = (number for number in numbers if number is not None)
    local_size = _number(environment.get("LOCAL_WORLD_SIZE"))
    return RankGroup(_text(environment, *names[:3]), world_size, rank, local_rank, address, port, local_size)


def _of_srun(environment: Mapping[str, str]) -> RankGroup | None:
    sizes = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    size_name = next((name for name in sizes if _number(environment.get(name)) is not None), "")
    world_size, rank = _number(environment.get(size_name)), _number(environment.get("SLURM_PROCID"))
    local_rank = _number(environment.get("SLURM_LOCALID"))
    if world_size is None or rank is None or not _is_task(environment):
        return None
    per_node = _number(environment.get("SLURM_NTASKS_PER_NODE"))
    if local_rank is None:
        local_rank = rank % per_node if per_node else rank
    num_nodes = environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES")
    node_list = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_NODELIST") or ""
    host = "" if num_nodes == "1" else _first_host(node_list)
    address = environment.get("MASTER_ADDR") or host or "127.0.0.1"
    job, step = (_number(environment.get(name)) or 0 for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    port = _number(environment.get("MASTER_PORT")) or 20000 + (31 * job + step) % 20000
    text, count = _text(environment, size_name, "SLURM_PROCID"), _number(num_nodes) or 1
    local_size = world_size // count if world_size % count == 0 else None
    return RankGroup(text, world_size, rank, local_rank, address, port, local_size)


def _is_task(environment: Mapping[str, str]) -> bool:
    """Whether srun started this process as a task; batch scripts and interactive shells have the variables as well."""
    step = _number(environment.get("SLURM_STEP_ID"))
    if step is not None:
        return step < _SPECIAL_STEPS
    return environment.get("ENVIRONMENT") != "BATCH" or environment["SLURM_PROCID"] != "0"


def _of_mpirun(environment: Mapping[str, str]) -> RankGroup | None:
    name = next((name for name in _MPI_SIZES if _number(environment.get(name)) is not None), None)
    if name is None:
        return None
    rank_name = name.replace("SIZE", "RANK")
    rank = _number(environment.get(rank_name)) or 0
    return RankGroup(_text(environment, name, rank_name), int(environment[name]), rank, rank, None, None)


def _first_host(node_list: str) -> str:
    """The first host of a list of SLURM such as `a01`, `a01,a02` or `gpu[03-05,9],b1`."""
    match = re.match(r"([^,\[\s]+)(?:\[(\w+)[^\]]*\])?", node_list)
    return "" if match is None else match[1] + (match[2] or "")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _text(environment: Mapping[str, str], *names: str) -> str:
    return " ".join(f"{name}={environment[name]}" for name in names if name in environment)


def run_module(module: str, *arguments: str) -> int:
    """Runs `python -m MODULE ARGUMENTS` and returns its exit code; an exception while waiting ends the process as well.

    The process has no rank: where several have to work together, Lightning starts the others from its command line.
    """
    child = subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment_without_rank())
    try:
        return child.wait()
    except BaseException:
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=60)
        raise


def run_modules(module: str, calls: Sequence[Sequence[str]]) -> int:
    """Runs `python -m MODULE ARGUMENTS` for each of `calls` at once; returns 0, or the code of the first that fails.

    The others are stopped then, as all are by an exception while waiting. The processes have no rank and share the
    processor's cores, unless OMP_NUM_THREADS is set.
    """
    threads = str(max(usable_cores() // len(calls), 1))
    environment = {"OMP_NUM_THREADS": threads, **environment_without_rank(), SHARE: threads}
    children = [subprocess.Popen([sys.executable, "-m", module, *words], env=environment) for words in calls]
    try:
        while True:
            codes = [child.poll() for child in children]
            failed = next((code for code in codes if code), 0)
            if failed or None not in codes:
                return failed
            time.sleep(_POLL_SECONDS)
    finally:
        left = [child for child in children if child.poll() is None]
        for child in left:
            child.send_signal(signal.SIGTERM)
        for child in left:
            child.wait(timeout=60)
