"""Ends a process and everything that it started as a power cut would."""

from __future__ import annotations

import subprocess

import psutil


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and its descendants, frozen first so that none can start another meanwhile."""
    try:
        parent = psutil.Process(process.pid)
        parent.suspend()
        family = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.suspend()
        except psutil.NoSuchProcess:
            continue
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
