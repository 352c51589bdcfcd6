"""A launcher that runs cells as processes of this machine."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

from lesion_exp.cores import SHARE, usable_cores
from lesion_exp.errors import ConfigError
from lesion_exp.next_command import next_command
from lesion_exp.process.distributed_environment import environment_without_rank
from lesion_exp.progress import Stage
from lesion_exp.sweeps.cell import Cell
from lesion_exp.sweeps.launcher.fork_server import GRACE_SECONDS
from lesion_exp.sweeps.launcher.launcher import Ended, Launcher
from lesion_exp.sweeps.launcher.threads import THREADS, num_threads
from lesion_exp.sweeps.ledger import Sweep

log = logging.getLogger(__name__)

VISIBLE_GPUS: Final = "CUDA_VISIBLE_DEVICES"


class LocalLauncher(Launcher):
    """Forks cells from the fork server; each gets its own GPUs and an equal share of the cores.

    Raises:
        ConfigError: there is less than one worker, or a negative number of GPUs.
    """

    def __init__(self, workers: int, gpus_per_job: int, fail_fast: bool) -> None:
        if workers < 1:
            raise ConfigError(f"expected launcher.workers of at least 1, got {workers}")
        if gpus_per_job < 0:
            raise ConfigError(f"expected launcher.gpus_per_job of at least 0, got {gpus_per_job}")
        self.workers, self.gpus_per_job, self.fail_fast = workers, gpus_per_job, fail_fast
        self._process: subprocess.Popen[str] | None = None
        self._is_open = False
        self._sweep_id = "latest"
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._free: list[tuple[str, ...]] = []
        """Groups of GPUs that no cell uses; empty tuples without GPUs."""
        self._leases: dict[str, tuple[str, ...]] = {}
        self._cells: dict[str, Cell] = {}

    @property
    def capacity(self) -> int:
        """One cell per worker, and not more than there are groups of GPUs."""
        return len(self._free) + len(self._leases)

    def warm_up(self) -> None:
        """Starts the fork server, which imports its modules in the background."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lesion_exp.sweeps.launcher.fork_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment_without_rank(),
        )
        threading.Thread(target=self._listen, name="answers of cells", daemon=True).start()

    def open(self, sweep: Sweep) -> None:
        """See the base class."""
        self._sweep_id = sweep.facts.sweep_id
        gpus = visible_gpus() if self.gpus_per_job else []
        if gpus and len(gpus) < self.gpus_per_job:
            raise ConfigError(
                f"expected {self.gpus_per_job} GPUs for launcher.gpus_per_job, but there are {len(gpus)}; set "
                f"launcher.gpus_per_job={len(gpus)}"
            )
        leases: list[tuple[str, ...]] = [()] * self.workers
        if gpus:
            begins = range(0, len(gpus) - self.gpus_per_job + 1, self.gpus_per_job)
            leases = [tuple(gpus[begin : begin + self.gpus_per_job]) for begin in begins]
        if gpus and len(leases) < self.workers:
            log.warning(
                "%d cells run at once: there are %d GPUs, and each cell uses %d",
                len(leases),
                len(gpus),
                self.gpus_per_job,
            )
        self._free = leases[: self.workers]
        if self._process is None:
            self.warm_up()
        with Stage("loading the libraries that the cells need", background=True):
            first = self._answers.get()
        if first is None or "ready" not in first:
            raise RuntimeError("the process that starts the cells could not start itself; its messages are above")
        self._is_open = True

    def start(self, cells: Sequence[Cell]) -> None:
        """See the base class."""
        cores = usable_cores()
        share = max(1, cores // self.capacity) if self.capacity > 1 else 0
        for cell in cells:
            folder = str(cell.folder)
            self._cells[folder], self._leases[folder] = cell, self._free.pop(0)
            threads = num_threads(cell, share, len(self._leases[folder])) if share else 0
            environment = {THREADS: str(threads), SHARE: str(share)} if share else {}
            if self._leases[folder] or self.gpus_per_job == 0:
                environment[VISIBLE_GPUS] = ",".join(self._leases[folder])
            self._tell({"folder": folder, "environment": environment, "threads": threads})

    def wait(self, seconds: float) -> list[Ended]:
        """See the base class."""
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            return []
        if answer is None:
            gone = [Ended(cell, "the process that started all cells has ended") for cell in self._cells.values()]
            self._cells.clear()
            self._free += self._leases.values()  # so that the next cell is told to nobody, which says what to do
            self._leases.clear()
            return gone
        self._free.append(self._leases.pop(answer["ended"]))
        code = answer["code"]
        return [Ended(self._cells.pop(answer["ended"]), _signal_text(-code) if code < 0 else None)]

    def stop(self) -> None:
        """See the base class."""
        with contextlib.suppress(RuntimeError):
            for folder in self._cells:
                self._tell({"stop": folder})

    def close(self) -> None:
        """See the base class."""
        if self._process is None:
            return
        assert self._process.stdin is not None, "it was opened as a pipe"
        if not self._is_open:
            self._process.kill()
        try:
            self._process.stdin.close()
            self._process.wait(timeout=GRACE_SECONDS + 10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process = None

    def _tell(self, command: dict[str, Any]) -> None:
        assert self._process is not None, "open comes first"
        assert self._process.stdin is not None, "it was opened as a pipe"
        try:
            print(json.dumps(command), file=self._process.stdin, flush=True)
        except BrokenPipeError as error:
            again = next_command("sweep", "resume", self._sweep_id)
            raise RuntimeError(f"the process that starts the cells has ended; {again} continues the sweep") from error

    def _listen(self) -> None:
        assert self._process is not None, "it was started"
        assert self._process.stdout is not None, "it was opened as a pipe"
        for line in self._process.stdout:
            self._answers.put(json.loads(line))
        self._answers.put(None)


def visible_gpus() -> list[str]:
    """Returns the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them; none is initialised for it."""
    chosen = os.environ.get(VISIBLE_GPUS)
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() and name.strip() != "-1"]
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    listed = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(number) for number in range(count)]


def _signal_text(number: int) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    hint = "; most often the machine ran out of memory" if number == signal.SIGKILL else ""
    return f"its process was ended by {name}{hint}"
