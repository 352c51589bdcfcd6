"""Settings of a process that computes on CPUs: how long OpenMP's threads wait actively, and where freed memory goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, MutableMapping
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_MMAP_MAX: Final = -4
"""M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_MMAP_MAX of glibc's malloc.h."""
_KEPT: Final = 2**31 - 1
"""Bytes: the largest value that mallopt takes."""
_MEMORY_OF_THE_USER: Final = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TOP_PAD_",
)
"""Variables with which a user says when malloc returns memory to the system; `GLIBC_TUNABLES` is the other way."""
_TUNABLES: Final = "GLIBC_TUNABLES"
SPINS: Final = "10000"
"""Rounds, a few microseconds, for which a thread waits actively; it sleeps afterwards."""
VARIABLE: Final = "GOMP_SPINCOUNT"
_OF_THE_USER: Final = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Makes glibc's malloc keep freed memory instead of returning it to the system; returns whether it does so now.

    A training step frees and allocates gigabytes. By default glibc maps each large tensor afresh, and the kernel fills
    its pages with zeros, which may take half of the time of a training step (`scripts/benchmark.py memory`). What is
    computed does not change. Up to 2 GiB of unused memory stay with the process, hardly more than its largest step
    needed. Processes that are forked later inherit the setting. Nothing is set, and False is returned,

    - where another C library or another allocator (jemalloc, tcmalloc, mimalloc) provides malloc;
    - where the user decides: with `MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`, `MALLOC_MMAP_MAX_`,
      `MALLOC_TOP_PAD_`, or `glibc.malloc` in `GLIBC_TUNABLES`.
    """
    if any(name in environment for name in _MEMORY_OF_THE_USER) or "glibc.malloc." in environment.get(_TUNABLES, ""):
        return False
    if not _has_malloc_of_glibc():
        return False
    import ctypes  # not for --help

    return _keep(ctypes.CDLL(None).mallopt)


def _keep(mallopt: Callable[[int, int], int]) -> bool:
    """Takes large blocks from the heap, and keeps the heap; `mallopt` returns 0 for a value that it refuses."""
    # before 2.35 glibc refuses a threshold above 32 MiB; there, no block at all may have a mapping of its own
    uses_heap = mallopt(_MMAP_THRESHOLD, _KEPT) or mallopt(_MMAP_MAX, 0)
    return bool(uses_heap and mallopt(_TRIM_THRESHOLD, _KEPT))


def _has_malloc_of_glibc() -> bool:
    """Whether malloc is that of glibc, and not of a library that was loaded before it."""
    import ctypes

    try:
        process = ctypes.CDLL(None)
        functions = (process.malloc, process.gnu_get_libc_version)
        find_library = process.dladdr
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    addresses = set()
    for function in functions:
        found = (ctypes.c_void_p * 4)()  # Dl_info: file, address of the library, name and address of the function
        if not find_library(ctypes.cast(function, ctypes.c_void_p), found):
            return False
        addresses.add(found[1])
    return len(addresses) == 1


def limit_active_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Limits how long a thread of OpenMP waits actively for the others at the end of a parallel loop.

    GNU's OpenMP, which torch uses on Linux, reads the setting when torch is loaded; it has no effect afterwards, except
    in processes that are started later. By default a thread waits actively for milliseconds. Where another program
    uses a core, the threads that wait take it from those that they wait for, and a training step may become many
    times as slow. A setting of the user is kept.
    """
    if not any(name in environment for name in _OF_THE_USER):
        environment[VARIABLE] = SPINS
