"""The threads of a cell: an equal share of its cores for each of its processes, or fewer if the user says so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from lesion_exp.sweeps.cell import Cell

THREADS: Final = "OMP_NUM_THREADS"


def num_threads(cell: Cell, cores: int, gpus: float) -> int:
    """Returns the number of threads of each process of `cell` on a machine.

    It is that of the user, from `OMP_NUM_THREADS` of the command that runs the sweep, if it is not above their share.

    Args:
        cell: the cell.
        cores: number of cores of the cell on the machine.
        gpus: number of GPUs of the cell there, each of which has a process with `trainer.devices=auto`.
    """
    share = max(cores // _num_processes(cell.job().config["trainer"], gpus), 1)
    of_user = os.environ.get(THREADS, "").partition(",")[0].strip()  # a list is for nested loops
    return min(share, int(of_user)) if of_user.isdecimal() and int(of_user) else share


def _num_processes(trainer: Mapping[str, Any], gpus: float) -> int:
    devices = trainer["devices"]
    if devices in ("auto", -1):
        return 1 if trainer["accelerator"] == "cpu" else max(int(gpus), 1)
    return len(devices) if isinstance(devices, list) else int(devices)
