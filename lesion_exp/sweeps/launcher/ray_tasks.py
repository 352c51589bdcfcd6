"""The tasks of Ray that run a cell on one node or on several, and the group of tasks that are one cell.

A cell on several nodes is a placement group with a bundle on each node, and a task in each bundle, which starts the
processes of its node by torchrun, as the task of SLURM does. Ray Train's TorchTrainer reserves the same places, but as
soon as one of its workers is lost it kills the others: they could neither close the run nor say who was lost, which
they find out by their heartbeats. It also runs the training in a thread, where signals cannot be handled.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lesion_exp.process.signals import interrupt_on_sigint
from lesion_exp.sweeps.cell import Cell
from lesion_exp.sweeps.launcher.launcher import CellProcess, run_cell_process
from lesion_exp.sweeps.launcher.several_nodes import processes_per_node, starter_words

LOST_SECONDS: Final = 50.0
"""Time in which the processes of a cell notice by themselves that those of another node are lost."""


def meeting_place() -> tuple[str, int]:
    """Returns the address of this node, and a port that is free there now."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = int(free.getsockname()[1])
    return str(importlib.import_module("ray.util").get_node_ip_address()), port


def run_cell_on_node(
    folder: str, variables: Mapping[str, str], without: Sequence[str], nodes: int, node: int, place: tuple[str, int]
) -> int:
    """Runs the processes of the cell in `folder` on the node `node` of `nodes`, and returns the code of their starter.

    They meet at `place`, an address and a port. Cancelling the task raises KeyboardInterrupt, which ends them.
    """
    interrupt_on_sigint()
    os.environ.update(variables)  # the devices of this node are counted as the processes will see them
    starter = starter_words(nodes, node, processes_per_node(Path(folder)), *place)
    return CellProcess(Path(folder), variables, without, starter).wait()


class CellOnRay:
    """The tasks of a cell, one for each of its nodes.

    Args:
        ray: the module.
        cell: the cell.
        variables: added to the environment of its processes.
        without: variables that are removed, by the beginnings of their names.
        nodes: number of nodes.
        options: of each task: its resources.
    """

    def __init__(
        self,
        ray: Any,
        cell: Cell,
        variables: Mapping[str, str],
        without: Sequence[str],
        nodes: int,
        options: Mapping[str, Any],
    ) -> None:
        self.cell, self.nodes = cell, nodes
        self._ray = ray
        self._group: Any = None
        self._lost: float | None = None
        """When the first task failed, on the monotonic clock."""
        self._is_cancelled = False
        self._reasons: list[str] = []
        self.references: dict[Any, int] = {}
        """Ray's references to the results of the tasks that have not ended, with the numbers of their nodes."""
        folder = str(cell.folder)
        named = {"name": f"cell {cell.number}", **options}
        if nodes == 1:
            task = ray.remote(run_cell_process).options(**named)
            self.references[task.remote(folder, variables, without)] = 0
            return
        scheduling = importlib.import_module("ray.util.scheduling_strategies").PlacementGroupSchedulingStrategy
        make_group = importlib.import_module("ray.util.placement_group").placement_group
        self._group = make_group([bundle(options)] * nodes, strategy="STRICT_SPREAD")
        places = [scheduling(self._group, placement_group_bundle_index=node) for node in range(nodes)]
        own = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": places[0]}
        place = ray.remote(meeting_place).options(**own).remote()
        for node, where in enumerate(places):
            task = ray.remote(run_cell_on_node).options(**named, scheduling_strategy=where)
            self.references[task.remote(folder, variables, without, nodes, node, place)] = node

    def note_end(self, reference: Any) -> str | None:
        """Notes the end of one of the tasks; returns why it failed, in words, if its processes cannot have said so."""
        node = self.references.pop(reference)
        text, failed = self._outcome(reference)
        if failed and self._lost is None:
            self._lost = time.monotonic()
        if text is None:
            return None
        self._reasons.append(text if self.nodes == 1 else f"on node {node + 1} of {self.nodes} {text}")
        return self._reasons[-1]

    def is_left_over(self) -> bool:
        """Returns whether the processes of a node are lost, and those of the others should have ended since."""
        if self._is_cancelled or self._lost is None:
            return False
        return time.monotonic() - self._lost > LOST_SECONDS

    def cancel(self) -> None:
        """Asks the tasks to end, which then close the run."""
        self._is_cancelled = True
        for reference in self.references:
            self._ray.cancel(reference, force=False)

    def release(self) -> str | None:
        """Gives the nodes back after all tasks have ended; returns the reasons that they gave."""
        if self._group is not None:
            importlib.import_module("ray.util.placement_group").remove_placement_group(self._group)
        return "; ".join(self._reasons) or None

    def _outcome(self, reference: Any) -> tuple[str | None, bool]:
        """What Ray reports of a task that did not return normally, and whether the task failed."""
        try:
            code = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return f"Ray says: {type(error).__name__}: {str(error).strip().splitlines()[0]}", True
        return (f"its process was ended by {signal.Signals(-code).name}" if code < 0 else None), code != 0


def bundle(options: Mapping[str, Any]) -> dict[str, float]:
    """Returns what a task with `options` needs of its node, by the names that a placement group uses."""
    named = {"CPU": options["num_cpus"], "GPU": options["num_gpus"], "memory": options.get("memory", 0)}
    return {name: amount for name, amount in {**named, **options["resources"]}.items() if amount}
