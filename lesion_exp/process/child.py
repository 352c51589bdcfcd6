"""A process of this package that this one starts and waits for."""

from __future__ import annotations

import signal
import subprocess
import sys

from lesion_exp.process.distributed_environment import environment_without_rank


def run_module(module: str, *arguments: str) -> int:
    """The exit code of `python -m MODULE ARGUMENTS`; whatever ends the waiting ends the process, too.

    It knows nothing of ranks: where several are to work together, Lightning starts the others from its command.
    """
    child = subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment_without_rank())
    try:
        return child.wait()
    except BaseException:
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=60)
        raise
