import json
import os
from pathlib import Path

import pytest

from lesion_exp.cli import main
from lesion_exp.sweeps.cell import PRUNED
from lesion_exp.sweeps.driver import drive
from lesion_exp.sweeps.launcher.launcher import Ended, Launcher
from lesion_exp.sweeps.ledger import create_sweep
from lesion_exp.sweeps.plan import plan_sweep
from tests.tiny import TINY


class ScriptedLauncher(Launcher):
    """Cells that take no time: `script` maps overrides to a metric (or several by name), an error, or None for a
    killed process. Where it maps them to a list, that is the metric after each epoch, and a call of `wait` an epoch."""

    def __init__(self, script, *, capacity=1, fail_fast=False, stop_after=None):
        self.script, self.fail_fast, self._capacity, self.stop_after = script, fail_fast, capacity, stop_after
        self.waiting, self.order = [], []

    @property
    def capacity(self):
        return self._capacity

    def open(self, sweep):
        self.sweep = sweep

    def start(self, cells):
        self.waiting += cells

    def wait(self, seconds):
        if self.stop_after is not None and len(self.order) == self.stop_after:
            raise KeyboardInterrupt
        if not self.waiting:
            return []
        cell = self.waiting.pop(0)
        text = " ".join(cell.facts()[0])
        self.order.append(text)
        result = self.script(text)
        if isinstance(result, list):
            return self.train_an_epoch(cell, result)
        attempts = cell.recorded().attempts + 1
        if result is None:
            cell.write(status="running", attempts=attempts, host=os.uname().nodename)
            return [Ended(cell, "its process was ended by SIGKILL")]
        if isinstance(result, Exception):
            cell.write(status="failed", attempts=attempts, error=str(result))
        else:
            values = result if isinstance(result, dict) else {"val/balanced_accuracy": result}
            metrics = {f"best/{name}": value for name, value in values.items()}
            cell.write(status="finished", attempts=attempts, run_id=f"run of {text}", metrics=metrics)
        return [Ended(cell)]

    def train_an_epoch(self, cell, values):
        epoch = len(cell.epochs()) + 1
        report = {"epoch": epoch, "max_epochs": len(values), "val/balanced_accuracy": values[epoch - 1]}
        if not cell.stop_file.exists():
            with cell.reports.open("a") as file:
                print(json.dumps(report), file=file)
            if epoch < len(values):
                self.waiting.insert(0, cell)
                return []
        note = PRUNED if cell.stop_file.exists() else None
        metrics = {"best/val/balanced_accuracy": max(values[:epoch])}
        cell.write(status="finished", attempts=1, run_id=f"run of cell {cell.number}", metrics=metrics, note=note)
        return [Ended(cell)]

    def stop(self):
        self.waiting.clear()

    def close(self):
        self.waiting.clear()


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A project folder with one store for all sweeps of a session: making a store takes seconds."""
    return tmp_path_factory.mktemp("sweeping")


@pytest.fixture
def planned(project, tmp_path):
    """Plans a sweep and writes it down."""

    def make(*overrides, force=True):  # the tests share a store, in which cells of the same job may be finished
        plan = plan_sweep([*TINY, *overrides], root=project, force=force)
        plan.check()
        return create_sweep(tmp_path / "sweeps", plan.facts, plan.cells, [Path("conf").absolute()])

    return make


@pytest.fixture
def driven():
    """Drives a sweep with a launcher to its end."""

    def run(sweep, launcher, again=()):
        return drive(sweep, launcher, sweep.project.store, again)

    return run


@pytest.fixture
def call(tmp_path, monkeypatch, own_process, capsys):
    """Calls a command in this process, which has its imports done; returns its code and what it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def command(*arguments):
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return command
