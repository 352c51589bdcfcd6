"""A launcher that runs cells as tasks of Ray, on a cluster that it starts on this machine, or on a running one.

Ray assigns cores, GPUs and memory to each task, and the task starts the cell as a separate process; a cell on several
machines has a task on each (see `ray_tasks.py`). On a cluster of several machines the project's folder, the data and
this environment must have the same path on all of them.
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
from lesion_exp.sweeps.launcher.launcher import Ended, Launcher
from lesion_exp.sweeps.launcher.local import VISIBLE_GPUS
from lesion_exp.sweeps.launcher.ray_tasks import CellOnRay, bundle
from lesion_exp.sweeps.launcher.several_nodes import check_nodes
from lesion_exp.sweeps.launcher.threads import THREADS, num_threads
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
        nodes: int = 1,
    ) -> None:
        for key, number, least in (
            ("nodes", nodes, 1),
            ("parallel", parallel, 1),
            ("cpus_per_job", cpus_per_job, 0 if nodes == 1 else 1),
            ("gpus_per_job", gpus_per_job, 0),
        ):
            if number < least:
                raise ConfigError(f"expected launcher.{key} of at least {least}, got {number}")
        if nodes > 1 and address == LOCAL:
            raise ConfigError(
                f"expected the address of a Ray cluster in launcher.address with launcher.nodes={nodes}, got local, "
                f"which starts a cluster on this machine alone; start Ray on each machine (ray start) and set "
                f"launcher.address=auto"
            )
        self.address, self.nodes, self.parallel, self.fail_fast = address, nodes, parallel, fail_fast
        self.cpus_per_job, self.gpus_per_job, self.memory_gb = cpus_per_job, gpus_per_job, memory_gb
        self.resources = dict(resources)
        self._ray: Any = None
        self._cells: list[CellOnRay] = []

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
        self.check_room([node["Resources"] for node in self._ray.nodes() if node["Alive"]])

    def start(self, cells: Sequence[Cell]) -> None:
        """See the base class."""
        for cell in cells:
            check_nodes(cell, self.nodes)
        share = max(1, int(self.cpus_per_job))
        variables = {SHARE: str(share)}
        if not self.gpus_per_job:
            variables[VISIBLE_GPUS] = ""
        for cell in cells:
            own = {**variables, THREADS: str(num_threads(cell, share, self.gpus_per_job))}
            self._cells.append(CellOnRay(self._ray, cell, own, RANK_VARIABLES, self.nodes, self.options()))

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
        references = {reference: cell for cell in self._cells for reference in cell.references}
        ready, _ = self._ray.wait(list(references), num_returns=1, timeout=seconds)
        for reference in ready:
            cell = references[reference]
            reason = cell.note_end(reference)
            if reason and cell.references:
                log.warning("cell %d: %s; its other nodes end, too", cell.cell.number, reason)
        for cell in self._cells:
            if cell.is_left_over():
                cell.cancel()
        over = [cell for cell in self._cells if not cell.references]
        self._cells = [cell for cell in self._cells if cell.references]
        return [Ended(cell.cell, cell.release()) for cell in over]

    def stop(self) -> None:
        """See the base class."""
        for cell in self._cells:
            cell.cancel()

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

    def check_room(self, there: Sequence[Mapping[str, float]]) -> None:
        """Adapts the request to the resources of each of the nodes `there`: without GPUs if the cluster has none.

        Raises:
            ConfigError: the cluster is on this machine and can never run a cell.
        """
        if self.gpus_per_job and not any("GPU" in node for node in there):
            log.warning("Ray has no GPUs: the cells run without one")
            self.gpus_per_job = 0
        wanted = bundle(self.options())
        fitting = [node for node in there if all(node.get(name, 0) >= least for name, least in wanted.items())]
        if len(fitting) >= self.nodes:
            return
        most = {name: max((node.get(name, 0) for node in there), default=0) for name in wanted}
        short = [f"{name} {most[name]:g} of {least:g}" for name, least in wanted.items() if most[name] < least]
        if self.address == LOCAL:
            raise ConfigError(
                f"expected room for one cell in Ray's cluster on this machine, but there is only {', '.join(short)}; "
                f"lower launcher.cpus_per_job, launcher.gpus_per_job, launcher.memory_gb or launcher.resources"
            )
        missing = f" (a node has at most {', '.join(short)})" if short else ""
        log.warning(
            "Ray has %d nodes with room for a cell now%s, and each cell needs %d: the cells wait until the cluster has "
            "grown",
            len(fitting), missing, self.nodes,
        )  # fmt: skip
