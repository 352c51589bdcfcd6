"""How a process that computes on the CPU keeps its memory."""

from __future__ import annotations

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""Names of glibc's malloc.h."""
_KEPT: Final = 2**31 - 1
"""Bytes: the largest value that mallopt takes."""


def keep_freed_memory() -> bool:
    """Lets malloc keep what is freed for the next request instead of handing it back; whether it could be asked for.

    A training step frees and takes gigabytes. By default glibc maps each large tensor anew, and the kernel fills every
    page of it with zeros: a tenth of a ResNet-50's training on a CPU. The process stays as large as it has once been.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, musl and macOS do not
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _KEPT) and mallopt(_TRIM_THRESHOLD, _KEPT))
