"""Cells as jobs of a SLURM cluster, submitted by submitit.

The folder of the sweep must lie on a file system that the nodes share. What a cell came to stands in its ledger; SLURM
is only asked which jobs it still has, with `squeue`: that works on clusters without accounting, too.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lesion_exp.errors import ConfigError
from lesion_exp.process.distributed_environment import RANK_VARIABLES
from lesion_exp.sweeps.cell import Cell
from lesion_exp.sweeps.launcher.launcher import Ended, Launcher
from lesion_exp.sweeps.launcher.local import VISIBLE_GPUS
from lesion_exp.sweeps.launcher.slurm_task import CellTask
from lesion_exp.sweeps.ledger import Sweep

log = logging.getLogger(__name__)

PACKAGE: Final = "submitit"
COMMANDS: Final = ("sbatch", "squeue", "scancel", "scontrol", "srun")
OWN_KEYS: Final = {
    "partition": "partition",
    "time": "minutes",
    "gpus-per-node": "gpus_per_job",
    "cpus-per-task": "cpus_per_job",
    "mem": "memory_gb",
    "array": "parallel",
    "signal": "grace_seconds",
}
"""Parameters of sbatch that have a key of their own."""
MOST_CELLS: Final = 1000
"""Jobs in an array: SLURM's own default for MaxArraySize is 1001."""
LEDGER_SECONDS: Final = 2.0
"""How often the cells' states are read: on a shared file system that is work."""
CANCEL_SECONDS: Final = 100.0
ENGINE_VARIABLES: Final = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_", "PMI_", "PMIX_")
"""What Lightning would take for a request to train on several nodes, with a requeueing of its own."""


class SlurmLauncher(Launcher):
    """Submits the cells as an array of jobs, each with a node's GPUs, cores and memory of its own.

    Raises:
        ConfigError: a number that is too small, or a parameter of sbatch that cannot be given so.
    """

    here = False

    def __init__(
        self,
        partition: str | None,
        minutes: int,
        parallel: int,
        gpus_per_job: int,
        cpus_per_job: int,
        memory_gb: float | None,
        requeues: int,
        grace_seconds: int,
        poll_seconds: float,
        setup: Sequence[str],
        sbatch: Mapping[str, Any],
        fail_fast: bool,
    ) -> None:
        lowest = {"minutes": 1, "parallel": 1, "gpus_per_job": 0, "cpus_per_job": 1, "requeues": 0, "grace_seconds": 1}
        numbers = (minutes, parallel, gpus_per_job, cpus_per_job, requeues, grace_seconds)
        for (key, least), number in zip(lowest.items(), numbers, strict=True):
            if number < least:
                raise ConfigError(f"expected launcher.{key} of at least {least}, got {number}")
        for key, value in sbatch.items():
            _check_parameter(key.replace("_", "-"), value)
        self.partition, self.minutes, self.parallel = partition, minutes, parallel
        self.gpus_per_job, self.cpus_per_job, self.memory_gb = gpus_per_job, cpus_per_job, memory_gb
        self.requeues, self.grace_seconds, self.poll_seconds = requeues, grace_seconds, poll_seconds
        self.setup, self.sbatch, self.fail_fast = list(setup), dict(sbatch), fail_fast
        self._sweep: Sweep | None = None
        self._cells: dict[str, Cell] = {}
        """By the id of its job."""
        self._living: set[str] = set()
        self._asked = self._read = 0.0
        """When SLURM was asked, and the ledger read."""
        self._submitting = False

    @property
    def capacity(self) -> int:
        """All cells at once, as SLURM limits an array itself; a search that learns gets as many as run at a time."""
        return self.parallel if self._sweep is not None and self._sweep.facts.space else MOST_CELLS

    def check(self) -> None:
        """See the base class."""
        missing = [name for name in COMMANDS if shutil.which(name) is None]
        if missing:
            raise ConfigError(
                f"expected SLURM's commands for launcher=slurm, but there is no {', '.join(missing)}; start the sweep "
                f"on a login node of the cluster"
            )

    def open(self, sweep: Sweep) -> None:
        """See the base class."""
        self._sweep = sweep
        answer = _squeue(job_name(sweep))
        if isinstance(answer, str):
            raise ConfigError(f"expected SLURM to say which jobs it has, but squeue says: {answer}")
        known = {cell.engine_id() for cell in sweep.cells()}
        lost = sorted(answer - known)
        if lost:  # their driver ended between their submission and the ledger
            log.warning("%d jobs that no cell knows are cancelled: %s", len(lost), " ".join(lost))
            _run("scancel", *lost)
        self._living, self._asked = answer & known, time.monotonic()

    def adopt(self, cell: Cell) -> bool:
        """See the base class."""
        ticket = cell.engine_id()
        if ticket is None or ticket not in self._living:
            return False
        log.info("cell %d is still with SLURM, as job %s", cell.number, ticket)
        self._cells[ticket] = cell
        return True

    def start(self, cells: Sequence[Cell]) -> None:
        """See the base class."""
        assert self._sweep is not None, "open comes first"
        submitit = importlib.import_module(PACKAGE)
        executor = submitit.SlurmExecutor(folder=self._sweep.folder / "slurm", max_num_timeout=self.requeues)
        executor.update_parameters(**self.parameters(self._sweep, busy=len(self._cells)))
        without = (*ENGINE_VARIABLES, *RANK_VARIABLES)
        variables = {"OMP_NUM_THREADS": str(self.cpus_per_job)}
        if self.gpus_per_job == 0:
            variables[VISIBLE_GPUS] = ""
        self._submitting = True
        try:
            with submitit.helpers.clean_env(), executor.batch():
                jobs = [executor.submit(CellTask(cell.folder, variables, without)) for cell in cells]
        except submitit.core.utils.FailedJobError as error:
            raise ConfigError(
                f"expected sbatch to take the cells, it says: {error}; look at launcher.partition, gpus_per_job, "
                f"cpus_per_job, memory_gb and sbatch"
            ) from error
        for cell, job in zip(cells, jobs, strict=True):
            cell.record_engine_id(job.job_id)
            self._cells[job.job_id] = cell
        self._submitting = False
        log.info("SLURM has taken job %s", jobs[0].job_id.partition("_")[0])
        self._living |= set(self._cells)
        self._asked = time.monotonic()

    def parameters(self, sweep: Sweep, busy: int = 0) -> dict[str, Any]:
        """What submitit's executor is given, while `busy` cells of an earlier array still run or wait."""
        given = {
            "job_name": job_name(sweep),
            "partition": self.partition,
            "time": self.minutes,
            "array_parallelism": max(1, self.parallel - busy),
            "gpus_per_node": self.gpus_per_job or None,
            "cpus_per_task": self.cpus_per_job,
            "mem": f"{round(self.memory_gb * 1024)}M" if self.memory_gb is not None else None,
            "signal_delay_s": self.grace_seconds,
            "srun_args": [f"--cpus-per-task={self.cpus_per_job}"],  # from 22.05 srun no longer takes it from sbatch
            "setup": self.setup or None,
            "stderr_to_stdout": True,
            "additional_parameters": {"requeue": True, **self.sbatch},
        }
        return {name: value for name, value in given.items() if value is not None}

    def wait(self, seconds: float) -> list[Ended]:
        """See the base class."""
        if time.monotonic() - self._read < min(LEDGER_SECONDS, self.poll_seconds):
            time.sleep(seconds)
            return []
        self._read = time.monotonic()
        over = [ticket for ticket, cell in self._cells.items() if cell.recorded().status in {"finished", "failed"}]
        if over:
            return [Ended(self._cells.pop(ticket)) for ticket in over]
        if time.monotonic() - self._asked > self.poll_seconds:
            self._look()
        gone = [ticket for ticket in self._cells if ticket not in self._living]
        return [Ended(self._cells.pop(ticket), _last_word(ticket)) for ticket in gone]

    def stop(self) -> None:
        """See the base class."""
        if self._sweep is not None and (self._cells or self._submitting):
            _run("scancel", *_of(job_name(self._sweep)))
            self.poll_seconds = min(self.poll_seconds, 2.0)

    def cancel(self, sweep: Sweep) -> bool:
        """See the base class."""
        self.check()
        _run("scancel", *_of(job_name(sweep)))
        deadline = time.monotonic() + CANCEL_SECONDS
        while time.monotonic() < deadline:
            if _squeue(job_name(sweep)) == set():
                return True
            time.sleep(1.0)
        log.warning("SLURM still has jobs of the sweep after %d s", CANCEL_SECONDS)
        return False

    def close(self) -> None:
        """See the base class."""
        self._cells.clear()

    def _look(self) -> None:
        assert self._sweep is not None, "open comes first"
        self._asked = time.monotonic()
        answer = _squeue(job_name(self._sweep))
        if isinstance(answer, str):
            log.warning("squeue says: %s; it is asked again in %g s", answer, self.poll_seconds)
        else:
            self._living = answer


def job_name(sweep: Sweep) -> str:
    """What the jobs of `sweep` are called in SLURM; no other sweep's are called so."""
    return f"lesion-exp-{sweep.facts.sweep_id}"


def _check_parameter(key: str, value: object) -> None:
    if key in OWN_KEYS:
        raise ConfigError(f"expected launcher.{OWN_KEYS[key]} for sbatch's --{key}, got launcher.sbatch.{key}")
    if value is False or not isinstance(value, (str, int, float)):
        raise ConfigError(
            f"expected text, a number or true (a flag without a value) in launcher.sbatch.{key}, got {value!r}"
        )


def _of(name: str) -> tuple[str, str]:
    return f"--name={name}", f"--user={os.getuid()}"


def _squeue(name: str) -> set[str] | str:
    """The ids of the jobs called `name` that wait or run, an array's one by one; or what is wrong."""
    done = _run("squeue", "--noheader", "--array", "--format=%i", *_of(name))
    return set(done.stdout.split()) if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def _last_word(ticket: str) -> str:
    """How SLURM says that a job ended: its controller while it remembers, then its accounting where there is any."""
    shown = _run("scontrol", "show", "job", ticket).stdout
    found = re.search(r"JobState=(\S+) Reason=(\S+).*?ExitCode=(\S+)", shown, re.DOTALL)
    if found is not None:
        state, reason, code = found.groups()
        return f"SLURM job {ticket} is {state}" + (f" ({reason})" if reason != "None" else f", exit code {code}")
    if shutil.which("sacct") is not None:
        state = _run("sacct", "--noheader", "--allocations", "--parsable2", "--format=State", "--jobs", ticket).stdout
        if state.strip():
            return f"SLURM job {ticket} is {state.split()[0]}"
    return f"SLURM no longer knows job {ticket}"


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
