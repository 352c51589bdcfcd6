"""A launcher that runs cells as tasks of Ray, on a cluster that it starts on this machine, or on a running one.

Ray assigns cores, GPUs and memory to each task, and the task starts the cell as a separate process. On a cluster of
several machines the project's folder, the data and this environment must have the same path on all of them.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lesion_exp.cores import SHARE
from lesion_exp.errors import ConfigError
from lesion_exp.process.distributed_environment import RANK_VARIABLES
from lesion_exp.sweeps.cell import Cell
from lesion_exp.sweeps.launcher.launcher import Ended, Launcher, run_cell_process
from lesion_exp.sweeps.launcher.local import VISIBLE_GPUS
from lesion_exp.sweeps.ledger import Sweep

log = logging.getLogger(__name__)

PACKAGE: Final = "ray"
LOCAL: Final = "local"
OBJECT_STORE_BYTES: Final = 80 * 1024**2
"""Size of Ray's object store, which is hardly used but reserves a third of the memory by default."""


class RayLauncher(Launcher):
    """Submits the cells to Ray, which starts each as soon as its cores, GPUs and memory are free.

    Raises:
        ConfigError: a number is too small.
    """

    here = False

    def __init__(
        self,
        address: str,
        parallel: int,
        cpus_per_job: float,
        gpus_per_job: float,
        memory_gb: float | None,
        resources: Mapping[str, float],
        fail_fast: bool,
    ) -> None:
        for key, number, least in (
            ("parallel", parallel, 1),
            ("cpus_per_job", cpus_per_job, 0),
            ("gpus_per_job", gpus_per_job, 0),
        ):
            if number < least:
                raise ConfigError(f"expected launcher.{key} of at least {least}, got {number}")
        self.address, self.parallel, self.fail_fast = address, parallel, fail_fast
        self.cpus_per_job, self.gpus_per_job, self.memory_gb = cpus_per_job, gpus_per_job, memory_gb
        self.resources = dict(resources)
        self._ray: Any = None
        self._cells: dict[Any, Cell] = {}
        """Cells by Ray's reference to the result of their task."""

    @property
    def other_machines(self) -> bool:
        """See the base class; a cluster that is started for the sweep consists of this machine."""
        return self.address != LOCAL

    @property
    def capacity(self) -> int:
        """The number of cells that are submitted to Ray at a time."""
        return self.parallel

    def open(self, sweep: Sweep) -> None:
        """See the base class."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        self._ray = importlib.import_module(PACKAGE)
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(**self._connection())
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"expected a Ray cluster at launcher.address={self.address}, but Ray says: {error}; "
                f"launcher.address=local starts one on this machine"
            ) from error
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)  # the handler of Ray ends the process with another exit code
        self.check_room(self._ray.cluster_resources())

    def start(self, cells: Sequence[Cell]) -> None:
        """See the base class."""
        task = self._ray.remote(run_cell_process)
        share = str(max(1, int(self.cpus_per_job)))
        variables = {"OMP_NUM_THREADS": share, SHARE: share}
        if not self.gpus_per_job:
            variables[VISIBLE_GPUS] = ""
        for cell in cells:
            named = task.options(name=f"cell {cell.number}", **self.options())
            self._cells[named.remote(str(cell.folder), variables, RANK_VARIABLES)] = cell

    def options(self) -> dict[str, Any]:
        """Returns the options of a task: its resources, and no retries, since the ledger handles them."""
        memory = {"memory": round(self.memory_gb * 1024**3)} if self.memory_gb is not None else {}
        return {
            "num_cpus": self.cpus_per_job,
            "num_gpus": self.gpus_per_job,
            "resources": self.resources,
            "max_retries": 0,
            **memory,
        }

    def wait(self, seconds: float) -> list[Ended]:
        """See the base class."""
        if not self._cells:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._cells), num_returns=1, timeout=seconds)
        return [Ended(self._cells.pop(reference), self._end_reason(reference)) for reference in ready]

    def stop(self) -> None:
        """See the base class."""
        for reference in self._cells:
            self._ray.cancel(reference, force=False)

    def close(self) -> None:
        """See the base class."""
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None

    def _connection(self) -> dict[str, Any]:
        common = {"address": self.address, "log_to_driver": False, "logging_level": logging.WARNING}
        if self.address != LOCAL:
            return common
        own = {"kill_child_processes_on_worker_exit": False}  # Ray would use SIGKILL; the kernel sends SIGTERM
        return {
            **common,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_system_config": own,
        }

    def check_room(self, there: Mapping[str, float]) -> None:
        """Adapts the request to the resources that are `there`: without GPUs if the cluster has none.

        Raises:
            ConfigError: the cluster is on this machine and can never run a cell.
        """
        if self.gpus_per_job and "GPU" not in there:
            log.warning("Ray has no GPUs: the cells run without one")
            self.gpus_per_job = 0
        wanted = {"CPU": self.cpus_per_job, "GPU": self.gpus_per_job, **self.resources}
        if self.memory_gb is not None:
            wanted["memory"] = self.memory_gb * 1024**3
        short = [f"{name} {there.get(name, 0):g} of {least:g}" for name, least in wanted.items()
                 if there.get(name, 0) < least]  # fmt: skip
        if short and self.address == LOCAL:
            raise ConfigError(
                f"expected room for one cell in Ray's cluster on this machine, but there is only {', '.join(short)}; "
                f"lower launcher.cpus_per_job, launcher.gpus_per_job, launcher.memory_gb or launcher.resources"
            )
        if short:
            log.warning("Ray has only %s now: the cells wait until the cluster has grown", ", ".join(short))

    def _end_reason(self, reference: Any) -> str | None:
        """What Ray reports of a task that did not return normally."""
        try:
            code = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return f"Ray says: {type(error).__name__}: {str(error).strip().splitlines()[0]}"
        return f"its process was ended by {signal.Signals(-code).name}" if code < 0 else None
