import json
import signal
import subprocess
import sys
import time

import pytest

from lesion_exp.config.shipped_conf import conf_dir
from lesion_exp.sweeps.ledger import create_sweep, find_sweep
from lesion_exp.sweeps.plan import plan_sweep
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.store import open_store
from lesion_exp.tracking.stored_run import download_artifact
from tests.forked_command import ForkedCommand
from tests.sweeps.conftest import TINY, ScriptedLauncher
from tests.sweeps.test_optuna import trials

pytestmark = pytest.mark.slow
FAILS = "optimizer.lr=1e30,1e-3"
"""With the first learning rate the loss is NaN after a step, and training fails with a message."""


def start(*arguments):
    """A command as a shell starts it, in a process of its own, which can be stopped."""
    command = [sys.executable, "-m", "lesion_exp", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stop(process, cells, number, how):
    """Sends a signal while a cell trains and the one before it is done; returns the exit code and what was said."""
    wait_for(lambda: cells[number - 1].state().status == "finished" and len(cells[number].epochs()) >= 2, process)
    process.send_signal(how)
    _, err = process.communicate()
    wait_for(lambda: cells[number].state().status == "queued")
    return process.returncode, err


def store_of(folder):
    return open_store(None, folder, folder / "mlruns" / "live")


def runs_by_cell(folder, sweep):
    store = store_of(folder)
    found = store.client.search_runs(store.experiment_ids(), f"tags.sweep_id = '{sweep.facts.sweep_id}'")
    return sorted((run.data.tags["sweep_cell"], run.info.status) for run in found if "sweep_cell" in run.data.tags)


def test_a_sweep_with_a_failing_cell_ends_with_the_others_and_is_not_run_twice(tmp_path, call, driven):
    overrides = (*TINY, "trainer.max_epochs=1", FAILS)
    code, out, err = call("train", "-m", *overrides)
    sweep = find_sweep(tmp_path / "sweeps", "latest")
    states = [cell.state() for cell in sweep.cells()]
    assert code == 1, err
    assert [state.status for state in states] == ["failed", "finished"], err
    assert out.splitlines()[-1] == sweep.facts.parent_run_id
    assert "cell 0 failed" in err
    assert states[0].error
    assert find_run(store_of(tmp_path), sweep.cells()[0].begun_run()).status == "FAILED"
    assert sweep.cells()[1].begun_run() == states[1].run_id
    run = find_run(store_of(tmp_path), states[1].run_id)
    assert run.tags["mlflow.parentRunId"] == sweep.facts.parent_run_id
    assert run.name == "optimizer.lr=0.001"
    assert "test/balanced_accuracy" not in run.metrics
    assert download_artifact(run, "config/job.yaml").read_text() == (sweep.folder / "cells/0001/job.yaml").read_text()
    code, out, _ = call("sweep", "status", "--json")
    assert (code, json.loads(out)["counts"]) == (0, {"finished": 1, "failed": 1})
    plan = plan_sweep(overrides, root=tmp_path)
    second = create_sweep(tmp_path / "sweeps", plan.facts, plan.cells, [conf_dir()])
    launcher = ScriptedLauncher(lambda text: RuntimeError("no luck"))
    driven(second, launcher)
    assert launcher.order == ["optimizer.lr=1e+30"]
    assert [cell.state().attempts for cell in second.cells()] == [1, 0]
    state = second.cells()[1].state()
    assert (state.run_id, state.note.partition(";")[0]) == (states[1].run_id, "done before")


def test_cells_that_share_data_and_features_are_the_runs_of_the_same_jobs(tmp_path, call):
    probe = (*TINY, "augmentation=none", "backbone.tune=head", "loader.batch_size=64")
    code, _, err = call("train", "-m", *probe, "backbone.head=linear,mlp")
    assert code == 0, err
    sweep = find_sweep(tmp_path / "sweeps", "latest")
    for cell in sweep.cells():
        assert "read once for all cells" in cell.log.read_text()
        code, out, err = call("train", *probe, *cell.facts()[0], "test=false", "tracking.log_model=false")
        assert code == 0, err
        assert "read once for all cells" not in err
        swept, single = (find_run(store_of(tmp_path), run_id) for run_id in (cell.state().run_id, out.split()[-1]))
        for tag in ("weights_hash", "split_hash", "dataset_fingerprint", "job_hash"):
            assert swept.tags[tag] == single.tags[tag], tag
        assert results(swept) == results(single)
        for path in ("split/audit.json", "dataset/flow.json", "evaluation/val/metrics.json"):
            assert download_artifact(swept, path).read_text() == download_artifact(single, path).read_text()
    assert len({find_run(store_of(tmp_path), c.state().run_id).tags["weights_hash"] for c in sweep.cells()}) == 2
    assert len(list((tmp_path / "data_cache" / "features").glob("*/features.bin"))) == 1


def results(run):
    return {name: value for name, value in run.metrics.items() if not name.startswith(("time/", "system/"))}


def test_a_sweep_that_is_stopped_twice_goes_on_and_no_run_is_lost_or_doubled(tmp_path, call):
    own = tmp_path / "mine" / "loss" / "own.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("_target_: lesion_exp.loss.focal.Focal\ngamma: 1.5\n")
    overrides = (*TINY, "trainer.max_epochs=15", "loss=own", "seed=1,2,3")
    process = ForkedCommand("train", "-m", "--config-dir", "mine", *overrides)
    sweep = wait_for(lambda: find_sweep(tmp_path / "sweeps", "latest"), process)
    cells = sweep.cells()
    code, err = stop(process, cells, 1, signal.SIGINT)
    assert code == 130, err
    assert "sweep resume" in err
    own.write_text("_target_: lesion_exp.loss.focal.Focal\ngamma: 99.0\n")
    code, err = stop(ForkedCommand("sweep", "resume"), cells, 2, signal.SIGKILL)
    assert code == -9, err
    code, out, err = call("sweep", "resume")
    assert code == 0, err
    assert [cell.state().status for cell in cells] == ["finished"] * 3
    assert [cell.state().attempts for cell in cells] == [1, 2, 2]
    assert runs_by_cell(tmp_path, sweep) == [("0000", "FINISHED"), ("0001", "FINISHED"), ("0002", "FINISHED")]
    assert {cell.job().config["loss"]["gamma"] for cell in cells} == {1.5}, "later edits change nothing"
    assert out.splitlines()[-1] == find_sweep(tmp_path / "sweeps", "latest").facts.parent_run_id


def test_a_search_that_is_killed_goes_on_with_its_cells_and_asks_for_the_rest(tmp_path, call):
    process = ForkedCommand(
        "train", "-m", *TINY, "trainer.max_epochs=6", "search=optuna", "search.num_cells=4",
        "search.startup_cells=2", "search.pruner=median", "search.pruner_startup_cells=1", "launcher.workers=2",
        "optimizer.lr=tag(log,interval(1e-4,1e-1))", "loss=focal,cross_entropy",
    )  # fmt: skip
    sweep = wait_for(lambda: find_sweep(tmp_path / "sweeps", "latest"), process)
    wait_for(lambda: any(cell.state().status == "finished" for cell in sweep.cells()), process)
    wait_for(lambda: half_trained(sweep), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_for(lambda: all(cell.state().status != "running" for cell in sweep.cells()))
    before = [cell.facts() for cell in sweep.cells()]
    attempts = [cell.state().attempts + (cell.state().status == "queued") for cell in sweep.cells()]
    assert 2 in attempts, "a cell was interrupted"
    code, _, err = call("sweep", "resume")
    assert code == 0, err
    cells = sweep.cells()
    assert [cell.facts() for cell in cells[: len(before)]] == before
    assert [cell.state().attempts for cell in cells[: len(before)]] == attempts
    assert [cell.state().status for cell in cells] == ["finished"] * 4
    assert runs_by_cell(tmp_path, sweep) == [(f"{number:04d}", "FINISHED") for number in range(4)]
    asked = {trial.number: trial for trial in trials(sweep)}
    told = [asked.pop(cell.trial()) for cell in cells]
    assert all(trial.state.name == "FAIL" for trial in asked.values()), "what became no cell"
    for cell, trial in zip(cells, told, strict=True):
        state = cell.state()
        assert trial.state.name == ("PRUNED" if state.note == "pruned" else "COMPLETE")
        assert trial.value == pytest.approx(
            cell.epochs()[-1]["val/balanced_accuracy"]
            if state.note == "pruned"
            else state.metrics["best/val/balanced_accuracy"]
        )
        assert len(trial.intermediate_values) == len(cell.epochs()), "heard of every epoch once"
        assert len(cell.epochs()) == 6 or state.note == "pruned"


def test_cancel_ends_the_cells_that_run_and_those_that_wait(tmp_path, call):
    store_of(tmp_path)  # the process would take seconds to make its tables
    process = start("train", "-m", *TINY, "trainer.max_epochs=400", "seed=1,2")
    sweep = wait_for(lambda: find_sweep(tmp_path / "sweeps", "latest"), process)
    wait_for(lambda: sweep.cells()[0].epochs(), process)
    code, _, err = call("sweep", "cancel", sweep.facts.sweep_id)
    process.communicate()
    assert (code, process.returncode) == (0, 1), err
    assert [cell.state().status for cell in sweep.cells()] == ["cancelled", "cancelled"]
    assert runs_by_cell(tmp_path, sweep) == [("0000", "KILLED")]


def half_trained(sweep):
    return any(cell.state().status == "running" and 1 <= len(cell.epochs()) <= 4 for cell in sweep.cells())


def wait_for(look, process=None, seconds=240):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        try:
            if found := look():
                return found
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise TimeoutError
