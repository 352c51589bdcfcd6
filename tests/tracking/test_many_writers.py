"""Processes that write runs to one store at the same time: sixteen to SQLite, sixty-four to PostgreSQL."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from scripts.postgres_server import postgres_server, programs

SCRIPT = Path(__file__).parents[2] / "scripts" / "endurance.py"
pytestmark = pytest.mark.long


def write_at_once(count: int, *words: str, points: int = 100, seconds: float = 900) -> None:
    """Each run has all its points once, its parameters, its artifact and its status."""
    command = [sys.executable, str(SCRIPT), "writers", "--times", "1", "--points", str(points)]
    command += ["--processes", str(count), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    title, row = (line.split() for line in done.stdout.splitlines())
    found = dict(zip(title, row, strict=False))
    expected = {"writers": str(count), "failed": "0", "missing": "0", "doubled": "0", "unsent": "0"}
    assert {name: found[name] for name in expected} == expected, done.stderr
    assert done.returncode == 0


def test_sixteen_processes_write_runs_at_once_and_none_fails() -> None:
    """They make the store together."""
    write_at_once(16)


@pytest.mark.skipif(programs() is None, reason="needs the programs of PostgreSQL: apt-get install postgresql")
@pytest.mark.skipif(find_spec("psycopg") is None, reason="needs the driver of PostgreSQL: the extra postgresql")
def test_sixty_four_processes_write_runs_to_postgresql_at_once_and_none_fails() -> None:
    """They make the tables together, on a server that accepts 100 connections, which is its own default."""
    with postgres_server() as (uri, _):
        write_at_once(64, "--uri", uri, seconds=1800)
