"""Runs that go on with other processes end with the same weights to rounding, see `scripts/other_processes.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "other_processes.py"


@pytest.mark.long
@pytest.mark.parametrize("where", [(), ("--within",)], ids=["between epochs", "within an epoch"])
def test_weights_on_other_processes_differ_by_rounding(where):
    command = [sys.executable, str(SCRIPT), "--network", "plain", *where]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {tuple(row["processes"]): row for row in map(json.loads, done.stdout.splitlines())}
    assert set(rows) == {(2, 2), (2, 1), (2, 4), (2, 1, 4)}
    assert all(row["within"] == bool(where) for row in rows.values())
    assert all(row["same_images"] and row["same_validations"] for row in rows.values())
    assert rows[2, 1]["last_epoch"]["absolute"] == 0, "the sum of two numbers has no order"
    assert max(row["last_epoch"]["relative"] for row in rows.values()) < 1e-5
