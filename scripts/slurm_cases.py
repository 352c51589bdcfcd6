"""What `slurm_cluster.py` tries on its cluster: each case returns what happened."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from two_nodes import SMALL_CNN, TINY, Trial, difference, shown

if TYPE_CHECKING:
    from slurm_cluster import SlurmCluster

    from lesion_exp.sweeps.cell import Cell
    from lesion_exp.sweeps.ledger import Sweep

Found = TypeVar("Found")
PROGRAM = (sys.executable, "-m", "lesion_exp")
ON_SLURM = (
    "launcher=slurm", "launcher.gpus_per_job=0", "launcher.cpus_per_job=2", "launcher.poll_seconds=2",
)  # fmt: skip
"""Each cell takes a machine of two cores for itself."""
SMALL = (
    *(word for word in TINY if word != "trainer=ddp_cpu"),
    *SMALL_CNN,
    "loader.batch_size=8",
    "tracking.log_model=false",
)
CELL = (*SMALL, "trainer=cpu")
SLOW = ("loss=cross_entropy", "loss._target_=slow_loss.Slow")
SLOW_LOSS = '''\
import os, time
from lesion_exp.loss.cross_entropy import CrossEntropy

class Slow(CrossEntropy):
    """Cross-entropy that takes its time, so that the length of a training does not depend on the machine."""

    def compute(self, logits, labels):
        time.sleep(float(os.environ["SLOW_SECONDS"]))
        return super().compute(logits, labels)
'''
SECONDS = 600.0
"""How long a case waits for anything."""


class Sweeping:
    """A sweep on the cluster: its command, its ledger, and what SLURM says of its jobs."""

    def __init__(self, cluster: SlurmCluster) -> None:
        self.cluster = cluster
        (cluster.project / "slow_loss.py").write_text(SLOW_LOSS, encoding="utf-8")
        self.environment = {
            "PYTHONPATH": str(cluster.project), "LESION_EXP_TRUST": "slow_loss", "SLOW_SECONDS": "0.5",
        }  # fmt: skip

    def start(self, *words: str, log: str = "sweep.txt") -> subprocess.Popen[bytes]:
        """Starts a command of lesion_exp on machine `a`."""
        return self.cluster.start("a", *PROGRAM, *words, log=log, environment=self.environment)

    def call(self, *words: str, log: str = "sweep.txt") -> int:
        """Runs a command of lesion_exp on machine `a`, and returns its exit code."""
        return self.start(*words, log=log).wait()

    def sweep(self) -> Sweep:
        """The newest sweep of the project, once there is one."""
        from lesion_exp.sweeps.ledger import find_sweep

        return self.until("a sweep", lambda: find_sweep(self.cluster.project / "sweeps", "latest"))

    def until(self, what: str, look: Callable[[], Found | None], seconds: float = SECONDS) -> Found:
        """Waits until `look` finds something, and returns it; files that do not exist yet are waited for."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if found := look():
                    return found
            except (OSError, ValueError):
                pass
            time.sleep(0.2)
        raise RuntimeError(f"expected {what} within {seconds:g} s:\n{self.cluster.log('a', 'sweep.txt')[-6000:]}")

    def until_trains(self, cell: Cell, epochs: int = 2) -> None:
        """Waits until the cell has trained some epochs."""
        self.until(f"cell {cell.number} to train", lambda: len(cell.epochs()) >= epochs)

    def jobs(self) -> dict[str, str]:
        """The states of the jobs that SLURM has, by their id."""
        _, text = self.cluster.call("squeue", "--noheader", "--array", "--format=%i %T")
        return dict(line.split() for line in text.splitlines())

    def facts(self) -> dict[str, object]:
        """What the ledger and MLflow say of the cells."""
        sweep = self.sweep()
        states = [cell.recorded() for cell in sweep.cells()]
        return {
            "statuses": [state.status for state in states],
            "attempts": [state.attempts for state in states],
            "notes": [state.note for state in states],
            "hosts": sorted({str(state.host) for state in states}),
            "runs": self.runs(sweep),
            "steps_twice": self._repeated(sweep),
        }

    def runs(self, sweep: Sweep) -> list[tuple[str, str]]:
        """The number of the cell and the status of each run in MLflow that belongs to a cell."""
        from lesion_exp.tracking.find import runs_where
        from lesion_exp.tracking.heartbeat import mark_dead_runs
        from lesion_exp.tracking.store import open_store

        with self.cluster.as_seen_by("a") as root:
            store = open_store(None, root)
            mark_dead_runs(store)
            found = runs_where(store, f"tags.sweep_id = '{sweep.facts.sweep_id}'")
            return sorted((run.tags["sweep_cell"], run.status) for run in found if "sweep_cell" in run.tags)

    def until_none_runs(self) -> None:
        """Waits until no run is marked as running: one that SLURM killed before it was closed is a minute later."""
        sweep = self.sweep()
        self.until("the runs to end", lambda: all(status != "RUNNING" for _, status in self.runs(sweep)))

    def _repeated(self, sweep: Sweep) -> int:
        """The number of steps of `val/loss` that a run has more than once."""
        from lesion_exp.tracking.find import runs_where
        from lesion_exp.tracking.store import open_store

        count = 0
        with self.cluster.as_seen_by("a") as root:
            store = open_store(None, root)
            for run in runs_where(store, f"tags.sweep_id = '{sweep.facts.sweep_id}'"):
                if "sweep_cell" in run.tags:
                    steps = [point.step for point in store.client.get_metric_history(run.run_id, "val/loss")]
                    count += len(steps) - len(set(steps))
        return count


def sweep(cluster: SlurmCluster) -> dict[str, object]:
    """A sweep of three cells, of which two run at a time."""
    sweeping = Sweeping(cluster)
    process = sweeping.start(
        "train", "-m", *CELL, "trainer.max_epochs=2", "seed=1,2,3", "launcher.parallel=2", *ON_SLURM
    )
    most, kinds = 0, set[str]()
    while process.poll() is None:
        jobs = sweeping.jobs()
        most, kinds = max(most, list(jobs.values()).count("RUNNING")), kinds | set(jobs)
        time.sleep(0.2)
    status = cluster.call(*PROGRAM, "sweep", "status", "latest")
    return {
        "code": process.returncode, "jobs": sorted(kinds), "most_at_once": most,
        "status": (status[0], "3 cells: 3 finished" in status[1]), **sweeping.facts(),
    }  # fmt: skip


LIMIT = ("launcher.minutes=3", "launcher.grace_seconds=60")
"""SLURM asks the cells to end after 90 to 120 seconds, of which a busy machine needs many to start a training."""


def limit(cluster: SlurmCluster) -> dict[str, object]:
    """A cell that takes longer than its time limit."""
    sweeping = Sweeping(cluster)
    process = sweeping.start("train", "-m", *CELL, *SLOW, "trainer.max_epochs=40", "seed=1,2", *ON_SLURM, *LIMIT)
    cells = sweeping.sweep().cells()
    sweeping.until_trains(cells[0])
    sweeping.runs(sweeping.sweep())  # loads MLflow, which takes longer than the job waits
    sweeping.until("cell 0 to be stopped", lambda: cells[0].recorded().note == "stopped")
    waiting, run = cells[0].recorded(), dict(sweeping.runs(sweeping.sweep()))["0000"]
    job = cells[0].engine_id()
    code = process.wait()
    _, text = cluster.call("scontrol", "show", "job", str(job))
    restarts = next((word for word in text.split() if word.startswith("Restarts=")), None)
    return {
        "code": code, "while_waiting": (waiting.status, waiting.note), "run_while_waiting": run, "restarts": restarts,
        "epochs": [len(cell.epochs()) for cell in cells], **sweeping.facts(),
    }  # fmt: skip


def requeue(cluster: SlurmCluster) -> dict[str, object]:
    """`scontrol requeue` of one cell, `scancel` of another, and `sweep resume`."""
    sweeping = Sweeping(cluster)
    process = sweeping.start("train", "-m", *CELL, *SLOW, "trainer.max_epochs=12", "seed=1,2,3", *ON_SLURM)
    cells = sweeping.sweep().cells()
    for cell in cells[:2]:
        sweeping.until_trains(cell)
    cluster.call("scontrol", "requeue", str(cells[0].engine_id()))
    cluster.call("scancel", str(cells[1].engine_id()))
    code = process.wait()
    before = sweeping.facts()
    return {"code": code, "before": before, "resumed": sweeping.call("sweep", "resume"), **sweeping.facts()}


def driver(cluster: SlurmCluster) -> dict[str, object]:
    """The command that drives the sweep is killed, resumed, interrupted, and killed again before `sweep cancel`."""
    sweeping = Sweeping(cluster)
    process = sweeping.start("train", "-m", *CELL, *SLOW, "trainer.max_epochs=40", "seed=1,2", *ON_SLURM)
    cells = sweeping.sweep().cells()
    for cell in cells:
        sweeping.until_trains(cell)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = [cell.engine_id() for cell in cells]
    process = sweeping.start("sweep", "resume", log="resumed.txt")
    sweeping.until("the jobs to be adopted", lambda: "SLURM still has cell 1" in cluster.log("a", "resumed.txt"))
    adopted = {"same_jobs": [cell.engine_id() for cell in cells] == before, "jobs": sorted(sweeping.jobs())}
    process.send_signal(signal.SIGINT)
    code, jobs = process.wait(), sorted(sweeping.jobs())
    sweeping.until_none_runs()
    interrupted = {"code": code, "jobs": jobs, **sweeping.facts()}
    process = sweeping.start("sweep", "resume", log="again.txt")
    sweeping.until("the cells to go on", lambda: all(cell.recorded().attempts == 2 for cell in cells))
    process.send_signal(signal.SIGKILL)
    process.wait()
    code, jobs = sweeping.call("sweep", "cancel"), sorted(sweeping.jobs())
    sweeping.until_none_runs()
    cancelled = {"code": code, "jobs": jobs, **sweeping.facts()}
    retried = {"code": sweeping.call("sweep", "retry"), **sweeping.facts()}
    return {"adopted": adopted, "interrupted": interrupted, "cancelled": cancelled, "retried": retried}


def memory(cluster: SlurmCluster) -> dict[str, object]:
    """Jobs that need more memory than they have, and `sweep resume` with more."""
    sweeping = Sweeping(cluster)
    code = sweeping.call("train", "-m", *CELL, "trainer.max_epochs=1", "seed=1,2", *ON_SLURM, "launcher.memory_gb=0.2")
    before = sweeping.facts()
    resumed = sweeping.call("sweep", "resume", "launcher.memory_gb=4")
    return {"code": code, "before": before, "resumed": resumed, **sweeping.facts()}


def preempt(cluster: SlurmCluster) -> dict[str, object]:
    """A job of the urgent partition takes both machines while two cells train."""
    sweeping = Sweeping(cluster)
    process = sweeping.start("train", "-m", *CELL, *SLOW, "trainer.max_epochs=12", "seed=1,2", *ON_SLURM)
    cells = sweeping.sweep().cells()
    for cell in cells:
        sweeping.until_trains(cell)
    cluster.call(
        "sbatch", "--partition=urgent", "--exclusive", "--nodes=2", "--output=/dev/null", "--wrap=sleep 20"
    )  # fmt: skip
    sweeping.until("the cells to be stopped", lambda: all(cell.recorded().note == "stopped" for cell in cells))
    return {"code": process.wait(), **sweeping.facts()}


def srun(cluster: SlurmCluster) -> dict[str, object]:
    """One run by srun on two machines and on one, beside the same job without SLURM."""
    trial = Trial(cluster, 1, *SMALL_CNN, "trainer.max_epochs=3")
    found = {
        "two_machines": on_two_machines("train", "job=job.yaml"),
        "one_machine": ("srun", "--nodes=1", "--ntasks=2", *PROGRAM, "train", "job=alone.yaml"),
    }
    results: dict[str, dict[str, object]] = {}
    for name, words in found.items():
        code, _ = cluster.call(*words)
        results[name] = {"code": code, **trial.facts()}
    alone = trial.train_alone(SECONDS)
    return {
        **{name: shown(facts) for name, facts in results.items()},
        "without_slurm": shown(alone),
        "largest_difference": max(difference(facts, alone) for facts in results.values()),
        "metrics_equal": all(facts["_metrics"] == alone["_metrics"] for facts in results.values()),
    }


def on_two_machines(*command: str) -> tuple[str, ...]:
    """The words that run a command of lesion_exp as one process on each machine."""
    return ("srun", "--nodes=2", "--ntasks-per-node=1", *PROGRAM, *command)


LONGER = ("trainer.max_epochs=40", "trainer.checkpoint_every_steps=5")


def killed(cluster: SlurmCluster) -> dict[str, object]:
    """The process on one machine is killed, and `srun ... resume` continues the run."""
    trial = Trial(cluster, 1, *SMALL_CNN, *LONGER)
    found = lost_by(trial, cluster, lambda: cluster.kill("b", "lesion_exp train"))
    cluster.wait_until_idle(120)
    resumed = {"code": cluster.call(*on_two_machines("resume", "run=latest"))[0], **trial.facts()}
    alone = trial.train_alone(SECONDS)
    rest = difference(resumed, alone) if "_last" in resumed else None
    return {**found, "resumed": shown(resumed), "largest_difference_to_a_run_that_never_stopped": rest}


def lost(cluster: SlurmCluster) -> dict[str, object]:
    """A machine is lost with all its processes, SLURM's included; it comes back before `srun ... resume`."""
    trial = Trial(cluster, 1, *SMALL_CNN, *LONGER)
    found = lost_by(trial, cluster, lambda: cluster.kill("b"))
    cluster.call("scancel", "--user=root")
    cluster.start_slurmd("b")
    cluster.wait_until_idle(120)
    resumed = {"code": cluster.call(*on_two_machines("resume", "run=latest"))[0], **trial.facts()}
    return {**found, "resumed": shown(resumed)}


def lost_by(trial: Trial, cluster: SlurmCluster, kill: Callable[[], int]) -> dict[str, object]:
    """How a run on two machines ends after `kill`."""
    process = cluster.start("a", *on_two_machines("train", "job=job.yaml"))
    trial.until_checkpoint([process], SECONDS)
    kill()
    began = time.monotonic()
    while time.monotonic() - began < SECONDS:
        if all(is_srun(pid) for pid in cluster.pids("a", "-m lesion_exp train")):
            break
        time.sleep(0.1)
    ended = time.monotonic() - began
    codes = trial.finish([process], 60)
    process.kill()
    said = [line for line in cluster.log("a").splitlines() if "rank 1 (process" in line or "resume run=" in line]
    return {
        "seconds_until_the_others_ended": round(ended, 1),
        "code_of_srun": codes[0],
        "said": said,
        "then": shown(trial.facts()),
    }


def is_srun(pid: int) -> bool:
    """Whether the process is srun, which has the words of the command that it runs."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == "srun"
    except OSError:
        return True


def nodes(cluster: SlurmCluster) -> dict[str, object]:
    """Two cells, each on two machines; one is requeued."""
    sweeping = Sweeping(cluster)
    words = ("trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2", "launcher.nodes=2", "loader.batch_size=4")
    process = sweeping.start("train", "-m", *SMALL, *words, *SLOW, "trainer.max_epochs=12", "seed=1,2", *ON_SLURM)
    cells = sweeping.sweep().cells()
    sweeping.until_trains(cells[0])
    cluster.call("scontrol", "requeue", str(cells[0].engine_id()))
    return {"code": process.wait(), **sweeping.facts()}


SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=study --output=job-%j.log --open-mode=append
#SBATCH --time=00:04:00 --cpus-per-task=2 --mem=8G
#SBATCH --requeue --signal=B:TERM@60
if compgen -G "sweeps/*/sweep.json" > /dev/null; then
    exec {program} sweep resume latest
fi
exec {program} train -m {words}
"""
"""The script of docs/machines.md, in the folder of the project, with a shorter time limit."""


def batch(cluster: SlurmCluster) -> dict[str, object]:
    """A sweep within one job: at its time limit, started again, requeued, and at its end."""
    sweeping = Sweeping(cluster)
    words = " ".join([*CELL, *SLOW, "trainer.max_epochs=60", "seed=1,2", "launcher.workers=2"])
    (cluster.project / "study.sbatch").write_text(SCRIPT.format(program=" ".join(PROGRAM), words=words))

    def submit(*options: str) -> str:
        cluster.start("a", "sbatch", "--parsable", *options, "study.sbatch", log="job.txt",
                      environment=sweeping.environment).wait()  # fmt: skip
        return cluster.log("a", "job.txt").split()[-1]

    def ended() -> bool:
        return not sweeping.jobs()

    first = submit()
    sweeping.until("the time limit", ended)
    at_limit = sweeping.facts()
    cells = sweeping.sweep().cells()
    second = submit("--time=00:30:00")
    epochs = len(cells[0].epochs())
    sweeping.until("the second start", lambda: len(cells[0].epochs()) > epochs)
    cluster.call("scontrol", "requeue", second)
    sweeping.until("the requeue", lambda: all(cell.state().note == "stopped" for cell in cells))
    requeued = sweeping.facts()
    sweeping.until("the third start", lambda: all(cell.recorded().attempts == 3 for cell in cells))
    sweeping.until("the end", ended)
    said = [(cluster.project / f"job-{job}.log").read_text(errors="replace") for job in (first, second)]
    stopped = [line for text in said for line in text.splitlines() if "stopped" in line and "sweep resume" in line]
    return {"at_limit": at_limit, "requeued": requeued, "said": stopped, **sweeping.facts()}


ALLOCATIONS = {
    "batch script": ("sbatch", "--wait", "--nodes=1", "--cpus-per-task=2", "--output=batch.txt", "--wrap"),
    "batch script of two tasks": ("sbatch", "--wait", "--nodes=1", "--ntasks=2", "--output=batch.txt", "--wrap"),
    "batch script of one core": ("sbatch", "--wait", "--nodes=1", "--ntasks=1", "--output=batch.txt", "--wrap"),
    "salloc": ("salloc", "--nodes=1", "--cpus-per-task=2", "sh", "-c"),
    "salloc, srun": ("salloc", "--nodes=1", "--cpus-per-task=2", "srun", "--ntasks=1", "--cpus-per-task=1", "sh", "-c"),
}
"""Commands that take a command line and run it in an allocation."""


def auto(cluster: SlurmCluster) -> dict[str, object]:
    """A training with `trainer=auto` in each kind of allocation."""
    import json

    from lesion_exp.tracking.find import find_run
    from lesion_exp.tracking.store import open_store
    from lesion_exp.tracking.stored_run import download_artifact

    line = " ".join([*PROGRAM, "train", *SMALL, "trainer=auto", "trainer.max_epochs=1"])
    found: dict[str, object] = {}
    for name, allocation in ALLOCATIONS.items():
        code, _ = cluster.call(*allocation, line)
        with cluster.as_seen_by("a") as root:
            run = find_run(open_store(None, root), "latest")
            hardware = json.loads(download_artifact(run, "environment/hardware.json").read_text(encoding="utf-8"))
        devices = run.params.get("resolved.trainer.devices")
        found[name] = {"code": code, "run": run.run_id, "devices": devices, "cores": hardware["usable_cores"]}
    return found


CASES: dict[str, Callable[[SlurmCluster], dict[str, object]]] = {
    case.__name__: case
    for case in (sweep, limit, requeue, driver, memory, preempt, srun, killed, lost, nodes, batch, auto)
}
