"""How many cores other programs use, beside which a training with several threads becomes slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

import psutil

from lesion_exp.cores import usable_cores

_SHORTEST: Final = 0.5
"""Seconds that have to pass before the programs of a machine are judged."""
_MUCH: Final = 0.5
"""Cores that others may use, or that may be wanted beyond those that there are, before something is said."""


class Reading(NamedTuple):
    """A look at the clocks of the machine."""

    time: float
    """Seconds on a clock that only goes forward."""
    used: float
    """Seconds for which all programs have used processors."""
    own: float
    """The part of them of this process and of the ended ones that it had started."""


def read_clocks() -> Reading:
    """Returns the clocks as they are now."""
    every, own = psutil.cpu_times(), psutil.Process().cpu_times()
    used = sum(getattr(every, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
    mine = sum(getattr(own, name, 0.0) for name in ("user", "system", "children_user", "children_system"))
    return Reading(time.monotonic(), used, mine)


class OtherPrograms:
    """Watches what other programs use from the moment it is made."""

    def __init__(self, read: Callable[[], Reading] = read_clocks) -> None:
        self._read = read
        self._begun = read()

    def cores(self) -> float:
        """Returns the mean number of cores that other programs have used; 0 if half a second has not passed yet."""
        now, begun = self._read(), self._begun
        passed = now.time - begun.time
        return max((now.used - begun.used - now.own + begun.own) / passed, 0.0) if passed >= _SHORTEST else 0.0

    def warning(self, threads: int) -> str | None:
        """Returns what to do if a computation with so many threads is slowed down by them; None if it is not.

        A network's layer ends when the last of its threads has ended, and each of them may wait for a core. Where this
        process may use only some of the machine's cores, nobody knows who uses the same ones, and the result is None.
        """
        cores = psutil.cpu_count() or 1
        others = self.cores()
        if threads == 1 or usable_cores() < cores or others < _MUCH or threads + others < cores + _MUCH:
            return None
        fewer = max(round(cores - others), 1)
        return (
            f"other programs use about {others:.1f} of the {cores} cores of this machine, and the {threads} threads of "
            f"this training wait for each other after each layer, so that a small network may take many times as "
            f"long; stop them, or set OMP_NUM_THREADS={fewer} before the command, which changes results only by "
            f"rounding"
        )
