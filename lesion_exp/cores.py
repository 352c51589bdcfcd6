"""The number of CPU cores that this process may use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

SHARE: Final = "LESION_EXP_CORES"
"""Variable with the number of cores that are this process's share. Cells of a sweep that run at once get it, so that
each starts no more threads and loader processes than its share can use."""


def usable_cores(environment: Mapping[str, str] = os.environ) -> int:
    """Returns the number of cores that the operating system lets this process run on, or fewer.

    SLURM may have given it fewer, or they are shared with other cells of a sweep.

    SLURM binds processes to the cores of their job on most clusters, but not on all.
    macOS does not tell the number, so that all cores of the machine count there.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = environment.get(SHARE, "")
    return min(cores, _cores_of_slurm(environment) or cores, max(int(share), 1) if share.isdecimal() else cores)


def cores_of_each(processes: int, environment: Mapping[str, str] = os.environ) -> int:
    """Returns how many of the usable cores are for each of `processes` processes that train together on this machine.

    Those that srun started as tasks have their share already.
    """
    tasks = _tasks_of_slurm(environment) or 1
    return max(usable_cores(environment) // max(processes // tasks, 1), 1)


def _cores_of_slurm(environment: Mapping[str, str]) -> int | None:
    """The cores that SLURM gave a process of a job on this machine; None outside of a job.

    SLURM_CPUS_ON_NODE counts the cores of all tasks that srun started on the machine, of which each has its share.
    """
    on_node, per_task = (_number(environment, name) for name in ("SLURM_CPUS_ON_NODE", "SLURM_CPUS_PER_TASK"))
    tasks = _tasks_of_slurm(environment)
    if on_node is None or tasks is None:
        return on_node
    return min(on_node, per_task or max(1, on_node // tasks))


def _tasks_of_slurm(environment: Mapping[str, str]) -> int | None:
    """The number of tasks that srun started on this machine, of which this process is one; None if it is none."""
    tasks, nodes = (_number(environment, name) for name in ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES"))
    return -(-tasks // nodes) if tasks and nodes else None


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else None
