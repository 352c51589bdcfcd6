"""Keeps OpenMP's waiting threads from taking the processor away from other programs."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Final

SPINS: Final = "10000"
"""Rounds, a few microseconds, for which a thread waits actively; it sleeps afterwards."""
VARIABLE: Final = "GOMP_SPINCOUNT"
_OF_THE_USER: Final = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def limit_active_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Limits how long a thread of OpenMP waits actively for the others at the end of a parallel loop.

    GNU's OpenMP, which torch uses on Linux, reads the setting when torch is loaded; it has no effect afterwards, except
    in processes that are started later. By default a thread waits actively for milliseconds. Where another program
    uses a core, the threads that wait take it from those that they wait for, and a training step becomes up to 40 times
    as slow. A setting of the user is kept.
    """
    if not any(name in environment for name in _OF_THE_USER):
        environment[VARIABLE] = SPINS
