"""A launcher that submits cells as jobs of a SLURM cluster, by submitit.

The folder of the sweep must be on a file system that the nodes share. The results of cells are read from the ledger;
SLURM is only asked by `squeue` which jobs it still has, which also works on clusters without accounting.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

from lesion_exp.errors import ConfigError
from lesion_exp.process.distributed_environment import RANK_VARIABLES, inherited_group
from lesion_exp.sweeps.cell import Cell
from lesion_exp.sweeps.launcher.launcher import CellProcess, Ended, Launcher
from lesion_exp.sweeps.launcher.local import VISIBLE_GPUS
from lesion_exp.sweeps.launcher.several_nodes import check_nodes, processes_per_node, starter_words
from lesion_exp.sweeps.launcher.threads import THREADS, num_threads
from lesion_exp.sweeps.ledger import Sweep

log = logging.getLogger(__name__)
PACKAGE: Final = "submitit"
COMMANDS: Final = ("sbatch", "squeue", "scancel", "scontrol", "srun")
OWN_KEYS: Final = {
    "partition": "partition",
    "nodes": "nodes",
    "time": "minutes",
    "gpus-per-node": "gpus_per_job",
    "cpus-per-task": "cpus_per_job",
    "mem": "memory_gb",
    "array": "parallel",
    "signal": "grace_seconds",
}
"""Parameters of sbatch for which the launcher has a key."""
MOST_CELLS: Final = 1000
"""Jobs in an array: SLURM's default of MaxArraySize is 1001."""
LEDGER_SECONDS: Final = 2.0
"""Interval at which the states of cells are read, which takes time on a shared file system."""
CANCEL_SECONDS: Final = 100.0
KEPT_VARIABLES: Final = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SUBMITIT_PREEMPT_SIGNAL")
"""Variables by which SLURM's commands find the cluster, and submitit its signal; sbatch and the job get them."""
USER_DEFAULTS: Final = ("account", "partition", "qos", "reservation")
"""Parameters of sbatch whose variable, such as SBATCH_ACCOUNT, sbatch gets where the launcher has no value."""
ENGINE_VARIABLES: Final = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_", "PMI_", "PMIX_")
"""Prefixes of variables that would make Lightning train on several nodes, and requeue the job itself."""
WARNING_SIGNALS: Final = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which submitit hears of the time limit. Some clusters send them to every process of a job, not only to the
task: an unprepared process would die of them before it has closed its run."""
JOB_VARIABLES: Final = (
    "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_PARTITION", "SLURM_CPUS_PER_TASK",
    "SLURM_CPUS_ON_NODE",
)  # fmt: skip
"""Variables that a cell keeps: they are recorded with its run, and say how many cores it has."""


class CellTask:
    """Runs one cell, and lets it close its run before SLURM ends the job.

    Before the time limit SLURM sends the signal that submitit handles: it calls `checkpoint` and queues the job again.
    On pre-emption, `scontrol requeue` and `scancel` SLURM sends SIGTERM, and may queue the job again itself. A job that
    runs again finds the cell queued and continues from its checkpoint.
    """

    nodes: int = 1
    """Number of nodes of the cell; tasks that an earlier version pickled have no such attribute of their own."""

    def __init__(self, folder: Path, variables: Mapping[str, str], without: Sequence[str], nodes: int = 1) -> None:
        self.folder, self.variables, self.without = folder, dict(variables), tuple(without)
        self.nodes = nodes
        self._process: CellProcess | None = None

    def __call__(self) -> int:
        """Returns 0 when the cell is done; otherwise the process ends with the exit code of the cell."""
        signal.signal(signal.SIGTERM, _end)
        starter = () if self.nodes == 1 else torchrun_words(os.environ, self.nodes, processes_per_node(self.folder))
        of_job = {name: os.environ[name] for name in JOB_VARIABLES if name in os.environ}
        variables = {**of_job, **self.variables}
        self._process = CellProcess(self.folder, variables, self.without, starter, ignored=WARNING_SIGNALS)
        code = self._process.wait()
        if code:
            sys.exit(code if code > 0 else 128 - code)
        return 0

    def checkpoint(self) -> Any:
        """Ends the cell, and returns the same task for the requeued job."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # requeueing sends SIGTERM before submitit is done
        if self._process is not None:
            self._process.end()
        submission = importlib.import_module("submitit.helpers").DelayedSubmission
        return submission(CellTask(self.folder, self.variables, self.without, self.nodes))


def torchrun_words(environment: Mapping[str, str], nodes: int, per_node: int) -> tuple[str, ...]:
    """Returns the words by which the task of one node starts its processes of a cell; the environment is that of srun.

    Each node has one task. The port depends on the job, so that jobs on the same node use different ports.

    Raises:
        ConfigError: SLURM gave the job another number of nodes.
    """
    given = environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES")
    if given != str(nodes):
        raise ConfigError(
            f"expected SLURM to give the job launcher.nodes={nodes} nodes, got {given}; leave nodes out of "
            f"launcher.sbatch and of launcher.setup"
        )
    group = inherited_group(environment)
    if group is None or group.world_size != nodes:
        raise ConfigError(
            f"expected srun to start one task on each of launcher.nodes={nodes} nodes, got "
            f"{environment.get('SLURM_NTASKS', 'none')} tasks; leave ntasks out of launcher.sbatch"
        )
    return starter_words(nodes, group.rank, per_node, str(group.address), int(group.port or 0))


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signal.SIGTERM)


class SlurmLauncher(Launcher):
    """Submits the cells as an array of jobs, each with its own GPUs, cores and memory on one node, or on several.

    Raises:
        ConfigError: a number is too small, the time limit leaves no time to train, or a parameter of sbatch cannot be
            given in `sbatch`.
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
        nodes: int = 1,
    ) -> None:
        lowest = {
            "nodes": 1,
            "minutes": 1,
            "parallel": 1,
            "gpus_per_job": 0,
            "cpus_per_job": 1,
            "requeues": 0,
            "grace_seconds": 1,
        }
        numbers = (nodes, minutes, parallel, gpus_per_job, cpus_per_job, requeues, grace_seconds)
        for (key, least), number in zip(lowest.items(), numbers, strict=True):
            if number < least:
                raise ConfigError(f"expected launcher.{key} of at least {least}, got {number}")
        if grace_seconds >= 60 * minutes:
            raise ConfigError(
                f"expected launcher.grace_seconds below the time limit, {60 * minutes} seconds (launcher.minutes="
                f"{minutes}), got {grace_seconds}: a cell would be asked to end as soon as it begins; raise "
                f"launcher.minutes or lower launcher.grace_seconds"
            )
        for key, value in sbatch.items():
            _check_parameter(key.replace("_", "-"), value)
        self.partition, self.nodes, self.minutes, self.parallel = partition, nodes, minutes, parallel
        self.gpus_per_job, self.cpus_per_job, self.memory_gb = gpus_per_job, cpus_per_job, memory_gb
        self.requeues, self.grace_seconds, self.poll_seconds = requeues, grace_seconds, poll_seconds
        self.setup, self.sbatch, self.fail_fast = list(setup), dict(sbatch), fail_fast
        self._sweep: Sweep | None = None
        self._cells: dict[str, Cell] = {}
        """Cells by the id of their job."""
        self._active: set[str] = set()
        self._last_query = self._last_read = 0.0
        """When SLURM was asked and the ledger was read last."""
        self._submitting = False

    @property
    def capacity(self) -> int:
        """All cells at once, since SLURM limits the array; for an adaptive search, as many as run at a time."""
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
            raise ConfigError(
                f"expected squeue to list the jobs of SLURM, but it says: {answer}; try again when squeue answers"
            )
        known = {cell.engine_id() for cell in sweep.cells()}
        lost = sorted(answer - known)
        if lost:  # their driver ended after it had submitted them, before it recorded them
            log.warning("%d jobs that belong to no cell are cancelled: %s", len(lost), " ".join(lost))
            _run("scancel", *lost)
        self._active, self._last_query = answer & known, time.monotonic()

    def adopt(self, cell: Cell) -> bool:
        """See the base class."""
        job_id = cell.engine_id()
        if job_id is None or job_id not in self._active:
            return False
        log.info("SLURM still has cell %d, as job %s", cell.number, job_id)
        self._cells[job_id] = cell
        return True

    def start(self, cells: Sequence[Cell]) -> None:
        """See the base class."""
        assert self._sweep is not None, "open comes first"
        for cell in cells:
            check_nodes(cell, self.nodes)
        submitit = importlib.import_module(PACKAGE)
        executor = submitit.SlurmExecutor(folder=self._sweep.folder / "slurm", max_num_timeout=self.requeues)
        executor.update_parameters(**self.parameters(self._sweep, busy=len(self._cells)))
        without = (*ENGINE_VARIABLES, *RANK_VARIABLES)
        hidden = {VISIBLE_GPUS: ""} if self.gpus_per_job == 0 else {}
        tasks = [
            CellTask(
                cell.folder,
                {**hidden, THREADS: str(num_threads(cell, self.cpus_per_job, self.gpus_per_job))},
                without,
                self.nodes,
            )
            for cell in cells
        ]
        self._submitting = True
        try:
            with _variables_for_sbatch({**self.sbatch, "partition": self.partition}), executor.batch():
                jobs = [executor.submit(task) for task in tasks]
        except submitit.core.utils.FailedJobError as error:
            raise ConfigError(
                f"expected sbatch to accept the cells, but it says: {error}; change launcher.partition, "
                f"launcher.gpus_per_job, launcher.cpus_per_job, launcher.memory_gb or launcher.sbatch"
            ) from error
        for cell, job in zip(cells, jobs, strict=True):
            cell.record_engine_id(job.job_id)
            self._cells[job.job_id] = cell
        self._submitting = False
        log.info("SLURM has accepted job %s", jobs[0].job_id.partition("_")[0])
        self._active |= set(self._cells)
        self._last_query = time.monotonic()

    def parameters(self, sweep: Sweep, busy: int = 0) -> dict[str, Any]:
        """Returns the parameters of submitit's executor, while `busy` cells of an earlier array still run or wait."""
        given = {
            "job_name": job_name(sweep),
            "partition": self.partition,
            "nodes": self.nodes,
            "ntasks_per_node": 1,  # which starts a process for each device of its node
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
        if time.monotonic() - self._last_read < min(LEDGER_SECONDS, self.poll_seconds):
            time.sleep(seconds)
            return []
        self._last_read = time.monotonic()
        over = [job_id for job_id, cell in self._cells.items() if cell.recorded().status in {"finished", "failed"}]
        if over:
            return [Ended(self._cells.pop(job_id)) for job_id in over]
        if time.monotonic() - self._last_query > self.poll_seconds:
            self._look()
        gone = [job_id for job_id in self._cells if job_id not in self._active]
        return [Ended(self._cells.pop(job_id), self._end_reason(job_id)) for job_id in gone]

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

    def _end_reason(self, job_id: str) -> str:
        assert self._sweep is not None, "open comes first"
        error = last_error(self._sweep.folder / "slurm" / f"{job_id}_0_log.out")
        return _end_reason(job_id) + (f": {error}" if error else "")

    def _look(self) -> None:
        assert self._sweep is not None, "open comes first"
        self._last_query = time.monotonic()
        answer = _squeue(job_name(self._sweep))
        if isinstance(answer, str):
            log.warning("squeue says: %s; it is asked again in %g s", answer, self.poll_seconds)
        else:
            self._active = answer


def job_name(sweep: Sweep) -> str:
    """Returns the name of the jobs of `sweep` in SLURM, which is unique for each sweep."""
    return f"lesion-exp-{sweep.facts.sweep_id}"


@contextlib.contextmanager
def _variables_for_sbatch(given: Mapping[str, Any]) -> Iterator[None]:
    """Hides the variables of a job from within which cells are submitted: sbatch would prefer them to its script.

    Those by which SLURM is found are kept, and the user's defaults for parameters that are not `given`.
    """
    kept = {f"SBATCH_{name.upper()}" for name in USER_DEFAULTS if given.get(name) is None}.union(KEPT_VARIABLES)
    names = [name for name in os.environ if name.startswith(ENGINE_VARIABLES) or name in RANK_VARIABLES]
    hidden = {name: os.environ.pop(name) for name in names if name not in kept}
    try:
        yield
    finally:
        os.environ.update(hidden)


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
    """The ids of the waiting and running jobs with that name, each job of an array; or an error message."""
    done = _run("squeue", "--noheader", "--array", "--format=%i", *_of(name))
    return set(done.stdout.split()) if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def _end_reason(job_id: str) -> str:
    """How a job ended, according to SLURM's controller, or to its accounting if it has any."""
    shown = _run("scontrol", "show", "job", job_id).stdout
    found = re.search(r"JobState=(\S+) Reason=(\S+).*?ExitCode=(\S+)", shown, re.DOTALL)
    if found is not None:
        state, reason, code = found.groups()
        return f"SLURM job {job_id} is {state}" + (f" ({reason})" if reason != "None" else f", exit code {code}")
    if shutil.which("sacct") is not None:
        state = _run("sacct", "--noheader", "--allocations", "--parsable2", "--format=State", "--jobs", job_id).stdout
        if state.strip():
            return f"SLURM job {job_id} is {state.split()[0]}"
    return f"SLURM no longer knows job {job_id}"


def last_error(log_path: Path) -> str | None:
    """Returns the last error of SLURM's daemon in the log of a job since the job started last, such as too much memory.

    SLURM does not call a job out of memory where it enforces the limit by its own accounting, but writes so there.
    """
    if not log_path.exists():
        return None
    lines = log_path.read_text(encoding="utf-8", errors="replace").rpartition("Starting with JobEnvironment")[2]
    found = [match[1] for match in re.finditer(r"^slurmstepd\S*: error: (.+)$", lines, re.MULTILINE)]
    return next((text for text in reversed(found) if not text.startswith("***")), None)  # *** tells who cancelled it


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
