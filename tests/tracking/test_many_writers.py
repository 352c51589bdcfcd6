"""Sixteen processes that write runs to one SQLite store at the same time."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "endurance.py"


@pytest.mark.long
def test_sixteen_processes_write_runs_at_once_and_none_fails() -> None:
    """They make the store together; each run has all its points once, its parameters, its artifact and its status."""
    command = [sys.executable, str(SCRIPT), "writers", "--times", "1", "--points", "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    title, row = (line.split() for line in done.stdout.splitlines())
    found = dict(zip(title, row, strict=False))
    expected = {"writers": "16", "failed": "0", "missing": "0", "doubled": "0", "unsent": "0"}
    assert {name: found[name] for name in expected} == expected, done.stderr
    assert done.returncode == 0
