"""Starts a command of this package, and kills it with all its processes, as a power cut would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil


def start(folder: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    variables.pop("MLFLOW_TRACKING_URI", None)
    with (folder / "output.txt").open("ab") as output:
        command = [sys.executable, "-m", "lesion_exp", *arguments]
        return subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=output)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Sends SIGKILL to the process and its descendants, which are frozen first so that none can start another."""
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
