"""Settings of a process that computes on CPUs: how long OpenMP's threads wait actively, and where freed memory goes."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""
_KEPT: Final = 2**31 - 1
"""Bytes: the largest value that mallopt takes."""
SPINS: Final = "10000"
"""Rounds, a few microseconds, for which a thread waits actively; it sleeps afterwards."""
VARIABLE: Final = "GOMP_SPINCOUNT"
_OF_THE_USER: Final = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def keep_freed_memory() -> bool:
    """Makes malloc keep freed memory instead of returning it to the system; returns whether the C library supports it.

    A training step frees and allocates gigabytes. By default glibc maps each large tensor afresh, and the kernel fills
    its pages with zeros, which takes a tenth of the training time of a ResNet-50 on a CPU. The process never shrinks.
    """
    import ctypes  # not for --help

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl and macOS do not
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _KEPT) and mallopt(_TRIM_THRESHOLD, _KEPT))


def limit_active_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Limits how long a thread of OpenMP waits actively for the others at the end of a parallel loop.

    GNU's OpenMP, which torch uses on Linux, reads the setting when torch is loaded; it has no effect afterwards, except
    in processes that are started later. By default a thread waits actively for milliseconds. Where another program
    uses a core, the threads that wait take it from those that they wait for, and a training step may become many
    times as slow. A setting of the user is kept.
    """
    if not any(name in environment for name in _OF_THE_USER):
        environment[VARIABLE] = SPINS
