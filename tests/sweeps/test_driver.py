import json
import os
import shlex
import statistics
import time
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from rich.console import Console

from lesion_exp.cli import main
from lesion_exp.command.sweep import _command
from lesion_exp.config.freeze import job_hash
from lesion_exp.config.shipped_conf import conf_dir
from lesion_exp.data.data_fingerprint import DataFingerprint
from lesion_exp.errors import ConfigError
from lesion_exp.sweeps import driver as driver_module
from lesion_exp.sweeps.choices import group_cells
from lesion_exp.sweeps.driver import cancel_waiting, conclude, lacks_conclusion
from lesion_exp.sweeps.ledger import create_sweep, find_sweep, read_sweep
from lesion_exp.sweeps.parent_run import ParentRun
from lesion_exp.sweeps.plan import plan_sweep
from lesion_exp.sweeps.run_cell import cell_context
from lesion_exp.sweeps.same_data import CurrentData
from lesion_exp.sweeps.summary import as_frame, as_json, as_table, summarize
from lesion_exp.tracking.find import find_run, find_tagged
from lesion_exp.tracking.mlflow_values import flat_params
from lesion_exp.tracking.stored_run import download_artifact
from lesion_exp.training.run_context import RUN_FILE
from tests import own_process
from tests.sweeps.conftest import TINY, ScriptedLauncher

SCORES = {"seed=1": 0.5, "seed=2": 0.7, "seed=3": 0.6}


def statuses(sweep):
    return [cell.state().status for cell in sweep.cells()]


def parent(sweep):
    return find_tagged(sweep.project.store, {"sweep_id": sweep.facts.sweep_id, "kind": "sweep"})


def test_a_ledger_of_an_earlier_version_finds_its_launcher(planned):
    sweep = planned("seed=1,2")
    path = sweep.folder / "sweep.json"
    path.write_text(path.read_text().replace("lesion_exp.sweeps.", "lesion_exp.sweep."))
    assert "lesion_exp.sweep.launcher.local" in path.read_text()
    assert read_sweep(sweep.folder).facts == sweep.facts


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_store_in_sqlite_that_several_machines_write_to_is_told(planned, driven, caplog, elsewhere):
    launcher = ScriptedLauncher(lambda text: 0.5)
    launcher.here = not elsewhere
    driven(planned("seed=1,2"), launcher)
    assert ("SQLite coordinates only the processes of one machine" in caplog.text) == elsewhere


def test_every_cell_is_frozen_before_anything_starts(planned):
    sweep = planned("loss=focal,soft_f1", "seed=1,2")
    jobs = [cell.job() for cell in sweep.cells()]
    assert [cell.facts()[1] for cell in sweep.cells()] == [job.job_hash for job in jobs]
    assert len({job.job_hash for job in jobs}) == 4
    assert statuses(sweep) == ["queued"] * 4
    assert not any(job.config["test"] for job in jobs), "the test part is not read in a sweep"


def test_the_test_part_is_read_in_a_sweep_if_it_is_said(planned):
    assert all(cell.job().config["test"] for cell in planned("seed=1,2", "test=true").cells())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loss=focal,focl", "did you mean 'focal'"),
        ("trainer.max_epochs=2,none", "max_epochs"),
        ("loss.gama=1,2", "gama"),
        ("+loss.nothing=1,2", "nothing"),
        ("launcher=local,slurm", "the same for all cells"),
    ],
)
def test_a_mistake_in_any_cell_is_noticed_before_the_first_begins(project, override, words):
    with pytest.raises(ConfigError, match=words):
        plan_sweep([*TINY, "seed=1,2", override], root=project).check()


def test_a_cluster_may_be_given_a_single_run(project, planned, driven):
    alone = [*TINY, "seed=3", "loss=focal"]
    assert plan_sweep(alone, root=project) is None
    assert plan_sweep([*alone, "launcher=slurm", "search=optuna"], root=project) is None
    sweep = planned("seed=3", "loss=focal", "launcher=slurm")
    (cell,) = sweep.cells()
    assert (sweep.facts.keys, cell.facts()[0]) == (("seed",), ("seed=3",))
    assert (cell.job().config["seed"], cell.job().config["loss"]["gamma"]) == (3, 2.0)
    (default,) = planned("launcher=slurm").cells()
    assert default.job().config["seed"] == 0
    summary = driven(sweep, ScriptedLauncher({"seed=3": 0.5}.get))
    assert summary.counts() == {"finished": 1}
    console = Console(width=100)
    with console.capture() as shown:
        console.print(as_table(summary))
    assert "1 cell: 1 finished" in shown.get()
    assert "report the mean" not in shown.get()


def test_the_same_job_is_one_cell(planned, caplog):
    assert len(planned("seed=1,2,1").cells()) == 2
    assert "the same job" in caplog.text


def test_the_whole_training_part_is_trained_on_once(project, caplog):
    plan = plan_sweep([*TINY, "split.train_share=0.5,1.0", "split.share_seed=0,1,2"], root=project)
    assert [suggestion[0] for _, suggestion in plan.cells] == ["split.train_share=0.5"] * 3 + ["split.train_share=1.0"]
    assert "the same job" in caplog.text


def test_each_folder_of_data_has_its_cells(project, caplog):
    plan = plan_sweep(["dataset=folder", "dataset.root=raw,cleaned", "seed=1,2"], root=project)
    assert len(plan.cells) == 4
    assert "the same job" not in caplog.text


def test_a_sweep_over_seeds_ends_with_their_mean_in_mlflow(planned, driven):
    """No seed is a better choice than another."""
    sweep = planned("seed=1,2,3")
    summary = driven(sweep, ScriptedLauncher(SCORES.get))
    assert summary.counts() == {"finished": 3}
    run = parent(sweep)
    assert run.status == "FINISHED"
    assert not {"best_cell", "best_run_id", "best_choice"} & set(run.tags)
    mean = statistics.fmean(SCORES.values())
    assert run.metrics["best/val/balanced_accuracy"] == pytest.approx(mean)
    assert run.metrics["sweep/best/val/balanced_accuracy"] == pytest.approx(mean)
    assert run.metrics["sweep/finished"] == 3
    note = run.tags["mlflow.note.content"]
    assert (
        f"none of them is a better choice than another: report the mean of 3, val/balanced_accuracy {mean:.4f}" in note
    )
    assert "best" not in note
    assert list(as_frame(summary)["seed"]) == ["1", "2", "3"]
    assert run.tags["test_readings"] == "0"


def test_a_failed_cell_does_not_stop_its_siblings(planned, driven):
    sweep = planned("seed=1,2,3")
    script = {**SCORES, "seed=2": RuntimeError("no luck")}
    summary = driven(sweep, ScriptedLauncher(script.get))
    assert statuses(sweep) == ["finished", "failed", "finished"]
    assert sweep.cells()[1].state().error == "no luck"
    assert parent(sweep).status == "FAILED"
    assert as_json(summary)["counts"] == {"finished": 2, "failed": 1}
    again = ScriptedLauncher(SCORES.get)
    driven(sweep, again)
    assert again.order == [], "resume leaves alone what failed"
    driven(sweep, again, ("failed",))
    assert again.order == ["seed=2"]
    assert statuses(sweep) == ["finished"] * 3
    assert sweep.cells()[1].state().attempts == 2
    assert parent(sweep).status == "FINISHED"


def test_after_a_retry_the_run_of_the_sweep_has_the_result_of_all_cells(planned, driven):
    sweep = planned("loss=focal,soft_f1", "seed=1,2")
    first = {"loss=focal seed=1": 0.5, "loss=soft_f1 seed=1": 0.3}
    driven(sweep, ScriptedLauncher(lambda text: first.get(text, RuntimeError("no luck"))))
    run = parent(sweep)
    assert (run.tags["best_choice"], run.tags["best_run_id"]) == ("loss=focal", "run of loss=focal seed=1")
    assert (run.metrics["sweep/finished"], run.metrics["sweep/failed"]) == (2, 2)
    assert run.metrics["best/val/balanced_accuracy"] == 0.5
    driven(sweep, ScriptedLauncher({"loss=focal seed=2": 0.1, "loss=soft_f1 seed=2": 0.9}.get), ("failed",))
    run = parent(sweep)
    assert (run.metrics["sweep/finished"], run.metrics["sweep/failed"]) == (4, 0)
    for name in ("best/val/balanced_accuracy", "sweep/best/val/balanced_accuracy"):
        assert run.metrics[name] == pytest.approx(0.6)
    assert (run.tags["val"], run.tags["best_choice"], run.tags["best_cells"]) == ("0.600", "loss=soft_f1", "2,3")
    assert not {"best_cell", "best_run_id"} & run.tags.keys(), "the cell that was the best before"
    history = run.store.client.get_metric_history(run.run_id, "sweep/finished")
    assert sorted((point.step, point.value) for point in history) == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 4)]


def test_fail_fast_ends_the_sweep(planned, driven):
    sweep = planned("seed=1,2,3")
    launcher = ScriptedLauncher({**SCORES, "seed=2": RuntimeError("no luck")}.get, fail_fast=True)
    driven(sweep, launcher)
    assert launcher.order == ["seed=1", "seed=2"]
    assert statuses(sweep) == ["finished", "failed", "queued"]


def test_a_killed_process_leaves_its_cell_to_be_gone_on_with(planned, driven):
    sweep = planned("seed=1,2,3")
    driven(sweep, ScriptedLauncher({**SCORES, "seed=1": None}.get))
    assert statuses(sweep) == ["queued", "finished", "finished"]
    assert "SIGKILL" in sweep.cells()[0].state().note
    again = ScriptedLauncher(SCORES.get)
    driven(sweep, again)
    assert again.order == ["seed=1"]


def test_an_interrupted_sweep_goes_on_in_the_same_run(planned, driven):
    sweep = planned("seed=1,2,3")
    with pytest.raises(KeyboardInterrupt):
        driven(sweep, ScriptedLauncher(SCORES.get, stop_after=1))
    assert statuses(sweep) == ["finished", "queued", "queued"]
    stopped = parent(sweep)
    assert stopped.status == "KILLED"
    again = ScriptedLauncher(SCORES.get)
    driven(sweep, again)
    assert again.order == ["seed=2", "seed=3"]
    assert parent(sweep).run_id == stopped.run_id
    assert parent(sweep).status == "FINISHED"


def test_what_was_done_before_is_only_entered(planned, driven):
    sweep = planned("seed=1,2", force=False)
    store = sweep.project.store
    job = sweep.cells()[0].job()
    experiment = store.experiment_id("elsewhere")
    for run_name, root, tags in (
        ("other data", "elsewhere", {}),
        ("pruned", None, {"pruned": "true"}),
        ("same", None, {}),
    ):
        run = store.client.create_run(experiment, tags={"job_hash": job.job_hash, **tags}, run_name=run_name)
        for name, value in flat_params(job.config).items():
            value = f"{root}" if name == "dataset.root" and root else value
            store.client.log_param(run.info.run_id, name, value)
        store.client.log_metric(run.info.run_id, "best/val/balanced_accuracy", 0.9)
        store.client.set_terminated(run.info.run_id, "FINISHED")
    launcher = ScriptedLauncher(SCORES.get)
    driven(sweep, launcher)
    assert launcher.order == ["seed=2"]
    state = sweep.cells()[0].state()
    assert find_run(store, state.run_id).name == "same"
    assert state.metrics["best/val/balanced_accuracy"] == 0.9
    forced = ScriptedLauncher(SCORES.get)
    driven(planned("seed=1,2"), forced)
    assert forced.order == ["seed=1", "seed=2"]


def driven_until(method, sweep, driven, monkeypatch):
    """Drives a sweep in a process that dies in `method` of the sweep's run."""

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ParentRun, method, die)
        with pytest.raises(KeyboardInterrupt):
            driven(sweep, ScriptedLauncher(SCORES.get))


def test_who_watches_a_sweep_that_no_process_runs_is_told_so(planned, monkeypatch, tmp_path, capsys):
    def stop(seconds):
        raise KeyboardInterrupt

    sweep = planned("seed=1,2")
    monkeypatch.chdir(sweep.facts.store["paths"]["root"])
    monkeypatch.setattr("lesion_exp.command.sweep.time", SimpleNamespace(sleep=stop))
    with own_process.restored():
        assert main(["sweep", "status", sweep.facts.sweep_id, "--watch", f"paths.sweeps={tmp_path}/sweeps"]) == 130
    said = " ".join(capsys.readouterr().err.split())
    assert f"no process on this machine is running the sweep; lesion-exp sweep resume {sweep.facts.sweep_id}" in said
    command = said.partition("is running the sweep; ")[2].partition(" continues it")[0]
    assert shlex.split(command)[-1] == f"paths.sweeps={tmp_path}/sweeps", "where the sweep is"


def test_who_stops_a_sweep_is_told_a_command_with_what_was_typed(planned, monkeypatch, tmp_path, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    sweep, root = planned("seed=1,2"), tmp_path / "my project"
    (tmp_path / "mine").mkdir()
    typed = [f"paths.root={root}", f"paths.sweeps={tmp_path}/sweeps", "--config-dir=mine", "--trust=my_package"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lesion_exp.sweeps.driver.drive", stop)
    with own_process.restored():
        assert main(["sweep", "resume", sweep.facts.sweep_id, *typed]) == 130
    said = capsys.readouterr().err
    command = shlex.split(said.partition("every cell is kept; ")[2].partition(" continues the sweep")[0])
    assert command == ["lesion-exp", "sweep", "resume", sweep.facts.sweep_id, *typed]
    with own_process.restored():
        assert main(["sweep", "status", *command[3:]]) == 0, "it finds the sweep"


def with_own_loss(job):
    """The job with a loss of the package `my_losses`."""
    config = {**job.config, "loss": {"_target_": "my_losses.Loss"}}
    return replace(job, config=config, job_hash=job_hash(config, job.files))


@pytest.mark.parametrize("search", [(), ("search=optuna", "search.num_cells=3")])
def test_a_sweep_with_code_that_is_not_trusted_is_refused_before_a_cell_fails(
    project, tmp_path, monkeypatch, capsys, search
):
    plan = plan_sweep([*TINY, "seed=1,2", *search], root=project)
    cells = [(with_own_loss(job), suggestion) for job, suggestion in plan.tried]
    sweep = create_sweep(tmp_path / "sweeps", plan.facts, cells, [conf_dir()])
    if search:
        for cell in sweep.cells():
            cell.write(status="finished")
    words = ["sweep", "resume", sweep.facts.sweep_id, f"paths.root={project}", f"paths.sweeps={tmp_path}/sweeps"]
    driven = []
    monkeypatch.setattr("lesion_exp.command.sweep._drive", lambda *given: driven.append(given) or 0)
    with own_process.restored():
        assert main(words) == 2
    assert "add --trust my_losses" in " ".join(capsys.readouterr().err.split())
    assert driven == []
    with own_process.restored():
        assert main([*words, "--trust=my_losses"]) == 0
    assert len(driven) == 1


@pytest.mark.parametrize("verb", ["status", "resume"])
def test_a_sweep_whose_driver_died_after_the_last_cell_is_finished_by(planned, driven, monkeypatch, tmp_path, verb):
    sweep = planned("seed=1,2,3")
    driven_until("finish", sweep, driven, monkeypatch)
    assert (parent(sweep).status, "mlflow.note.content" in parent(sweep).tags) == ("KILLED", False)
    monkeypatch.chdir(sweep.facts.store["paths"]["root"])
    for _ in range(2):  # the second time there is nothing to do
        with own_process.restored():
            assert main(["sweep", verb, sweep.facts.sweep_id, f"paths.sweeps={tmp_path}/sweeps"]) == 0
        run = parent(sweep)
        assert (run.status, "report the mean of 3" in run.tags["mlflow.note.content"]) == ("FINISHED", True)
        assert len(pd.read_csv(download_artifact(run, "sweep/cells.csv"))) == 3
        assert run.metrics["best/val/balanced_accuracy"] == pytest.approx(0.6)
        assert not lacks_conclusion(sweep)


def test_a_sweep_that_goes_on_is_concluded_anew(planned, driven):
    sweep = planned("seed=1,2")
    driven(sweep, ScriptedLauncher({"seed=1": 0.5, "seed=2": RuntimeError("no luck")}.get))
    assert not lacks_conclusion(sweep)
    sweep.cells()[1].write(status="finished", attempts=2, run_id="run of seed=2", metrics={})
    assert lacks_conclusion(sweep)
    conclude(sweep, sweep.project.store)
    assert parent(sweep).status == "FINISHED"


def test_a_sweeps_run_that_was_killed_right_after_it_was_made_gets_what_it_lacks(planned, driven, monkeypatch):
    sweep = planned("seed=1,2")
    driven_until("_write_facts", sweep, driven, monkeypatch)
    driven(sweep, ScriptedLauncher(SCORES.get))
    run = parent(sweep)
    assert run.status == "FINISHED"
    assert "seed=1,2" in run.params["sweep.overrides"]
    assert json.loads(download_artifact(run, "sweep/sweep.json").read_text())["sweep_id"] == sweep.facts.sweep_id


def test_cancelled_cells_wait_for_a_retry(planned, driven):
    sweep = planned("seed=1,2,3")
    with pytest.raises(KeyboardInterrupt):
        driven(sweep, ScriptedLauncher(SCORES.get, stop_after=1))
    assert cancel_waiting(sweep) == 2
    again = ScriptedLauncher(SCORES.get)
    driven(sweep, again)
    assert again.order == []
    assert parent(sweep).status == "KILLED"
    driven(sweep, again, ("cancelled",))
    assert again.order == ["seed=2", "seed=3"]
    run = parent(sweep)
    assert (run.metrics["sweep/finished"], run.metrics["best/val/balanced_accuracy"]) == (3, pytest.approx(0.6))


def test_several_cells_run_at_once(planned, driven):
    sweep = planned("seed=1,2,3")
    most = []
    launcher = ScriptedLauncher(lambda text: most.append(len(launcher.waiting)) or SCORES[text], capacity=2)
    driven(sweep, launcher)
    assert max(most) == 1, "one waits beside the one that is answered"
    assert statuses(sweep) == ["finished"] * 3


def test_a_sweep_is_found_by_its_names(planned, driven, tmp_path):
    first = planned("seed=1,2")
    time.sleep(1.1)  # ids begin with the second
    second = planned("seed=1,3")
    driven(second, ScriptedLauncher({"seed=1": 0.1, "seed=3": 0.2}.get))
    folder = tmp_path / "sweeps"
    assert find_sweep(folder, "latest").folder == second.folder
    assert find_sweep(folder, first.facts.sweep_id).folder == first.folder
    assert find_sweep(folder, parent(second).run_id[:6]).folder == second.folder
    with pytest.raises(ConfigError, match="begins 2"):
        find_sweep(folder, first.facts.sweep_id[:6])
    with pytest.raises(ConfigError, match="the sweeps in"):
        find_sweep(folder, "nothing")
    with pytest.raises(ConfigError, match="there is none"):
        find_sweep(tmp_path / "empty", "latest")


def test_a_running_cell_whose_process_is_gone_is_queued_again(planned):
    cell = planned("seed=1,2").cells()[0]
    cell.write(status="running", host="another-machine", attempts=1)
    assert cell.state().status == "running", "a machine that cannot be seen is trusted for a while"
    cell.write(host=os.uname().nodename)
    assert cell.state().status == "queued"
    assert cell.state().note == "stopped"


def test_epochs_of_a_cell_that_went_on_count_once(planned):
    cell = planned("seed=1,2").cells()[0]
    lines = [
        json.dumps({"epoch": epoch, "max_epochs": 4, "val/loss": loss}) for epoch, loss in ((1, 9), (2, 8), (2, 7))
    ]
    cell.reports.write_text("\n".join([*lines, '{"epoch": 3, "torn']))
    assert [(report["epoch"], report["val/loss"]) for report in cell.epochs()] == [(1, 9), (2, 7)]


def test_a_summary_of_a_sweep_that_has_not_begun(planned):
    summary = summarize(planned("seed=1,2"))
    assert summary.counts() == {"queued": 2}
    assert summary.best() is None
    assert summary.seconds_left() is None


def fingerprint_of(**changes):
    parts = {part: f"{part} 1" for part in ("images", "labels", "ids", "metadata")}
    return DataFingerprint({**parts, **changes}, "before")


@pytest.fixture
def today(monkeypatch):
    """Lets the data of every cell be those of the fingerprint that it is called with; None: they cannot be read."""
    return lambda found: monkeypatch.setattr(CurrentData, "_read", lambda self, config: found)


def finished_run(sweep, number, tags, status="FINISHED"):
    """A run of a cell of `sweep` as its process would leave it, or of the same job elsewhere (`number` None)."""
    store = sweep.project.store
    job = sweep.cells()[number or 0].job()
    own = {} if number is None else {"sweep_id": sweep.facts.sweep_id, "sweep_cell": f"{number:04d}"}
    run = store.client.create_run(store.experiment_id("x"), tags={"job_hash": job.job_hash, **own, **tags})
    for name, value in flat_params(job.config).items():
        store.client.log_param(run.info.run_id, name, value)
    store.client.log_metric(run.info.run_id, "best/val/balanced_accuracy", 0.9)
    store.client.set_terminated(run.info.run_id, status)
    return run.info.run_id


@pytest.mark.parametrize("now", [fingerprint_of(labels="labels 2"), None])
def test_a_run_on_other_data_is_not_taken_for_a_cell(planned, driven, today, caplog, now):
    sweep = planned("seed=11,12", "optimizer.lr=1.1e-3" if now else "optimizer.lr=1.2e-3", force=False)
    run_id = finished_run(sweep, None, fingerprint_of().tags())
    today(now)
    launcher = ScriptedLauncher({"seed=11": 0.5, "seed=12": 0.7}.get)
    with caplog.at_level("INFO"):
        driven(sweep, launcher)
    assert launcher.order == ["seed=11", "seed=12"]
    (said,) = [text for text in caplog.messages if run_id in text]
    assert ("in: labels;" if now else "cannot be read here") in said


def test_a_run_on_the_same_data_is_taken_and_other_versions_are_said(planned, driven, today):
    sweep = planned("seed=21,22", force=False)
    run_id = finished_run(sweep, None, {**fingerprint_of().tags(), "version.torch": "2.0.0"})
    today(fingerprint_of())
    launcher = ScriptedLauncher({"seed=22": 0.7}.get)
    driven(sweep, launcher)
    assert launcher.order == ["seed=22"]
    state = sweep.cells()[0].state()
    assert state.run_id == run_id
    assert "done before" in state.note
    assert "torch: 2.0.0 then" in state.note


@pytest.mark.parametrize(
    ("then", "is_taken", "rate"), [("state 2", True, 0.0017), ("state 1", False, 0.0018), (None, False, 0.0019)]
)
def test_a_run_is_taken_for_a_cell_if_it_was_trained_with_the_present_code_of_the_user(
    planned, driven, today, monkeypatch, caplog, then, is_taken, rate
):
    monkeypatch.setattr(CurrentData, "code", lambda self, cell: {"own_code.my_losses": "state 2"})
    today(fingerprint_of())
    sweep = planned("seed=61,62", f"optimizer.lr={rate}", force=False)
    run_id = finished_run(sweep, None, {} if then is None else {"own_code.my_losses": then})
    launcher = ScriptedLauncher({"seed=61": 0.5, "seed=62": 0.7}.get)
    with caplog.at_level("INFO"):
        driven(sweep, launcher)
    assert launcher.order == (["seed=62"] if is_taken else ["seed=61", "seed=62"])
    assert (f"run {run_id}, but not with the present code of my_losses" in caplog.text) == (not is_taken)


def test_the_code_of_a_cell_is_that_of_the_packages_that_its_job_names(project, tmp_path, monkeypatch):
    module = tmp_path / "my_losses.py"
    module.write_text("one = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LESION_EXP_TRUST", "my_losses")
    plan = plan_sweep([*TINY, "seed=1,2"], root=project)
    (own, first), (other, second) = plan.cells
    sweep = create_sweep(tmp_path, plan.facts, [(with_own_loss(own), first), (other, second)], [])
    codes = []
    for text in ("one = 1\n", "one = 2\n"):
        module.write_text(text)
        codes.append([CurrentData(here=False).code(cell) for cell in sweep.cells()])
    assert [set(code) for code in codes[0]] == [{"own_code.my_losses"}, set()]
    assert codes[0][0] != codes[1][0]


def test_cells_that_were_trained_with_different_code_of_the_user_are_told(planned, driven):
    sweep = planned("loss=focal,soft_f1", "seed=71,72")
    for number, code in enumerate(("state 1", "state 2", None, None)):
        finished_run(sweep, number, {} if code is None else {"own_code.my_losses": code})
    driven(sweep, ScriptedLauncher(lambda text: 0.5))
    tags = parent(sweep).tags
    assert (
        "cell 0 was trained with another: state of your code my_losses: state 1 then, state 2 later"
        in (tags["mlflow.note.content"])
    )
    assert tags["mixed"] == "true"


def test_a_sweep_says_which_cells_were_begun_before_the_data_were_edited(planned, driven, today, caplog):
    sweep = planned("seed=31,32,33")
    driven(sweep, ScriptedLauncher({"seed=31": 0.5, "seed=32": 0.6, "seed=33": None}.get))
    for number in (0, 1, 2):
        status = "KILLED" if number == 2 else "FINISHED"
        finished_run(sweep, number, {**fingerprint_of().tags(), "version.torch": "2.0.0"}, status)
    today(fingerprint_of(labels="labels 2", metadata="metadata 2"))
    driven(sweep, ScriptedLauncher({"seed=33": 0.5}.get))
    assert "cells 0, 1, 2 were begun on data that differ from the current ones, in: labels" in caplog.text
    assert "cells 0, 1, 2 were begun on data that differ from the current ones, in: age, sex, site" in caplog.text
    assert "cells 0, 1, 2 were begun with another: torch: 2.0.0 then" in caplog.text


def test_a_sweep_of_cells_on_different_data_says_so_in_its_run(planned, driven, caplog):
    sweep = planned("seed=41,42,43")
    finished_run(sweep, 0, {**fingerprint_of().tags(), "version.torch": "2.0.0"})
    for number in (1, 2):
        finished_run(sweep, number, {**fingerprint_of(labels="labels 2").tags(), "version.torch": "2.1.0"})
    driven(sweep, ScriptedLauncher({"seed=41": 0.5, "seed=42": 0.6, "seed=43": 0.7}.get))
    said = "cell 0 was trained on data that differ from those of the last comparable cell, in: labels"
    assert said in caplog.text
    run = parent(sweep)
    assert said in run.tags["mlflow.note.content"]
    assert "torch: 2.0.0 then, 2.1.0 later" in run.tags["mlflow.note.content"]
    assert run.tags["mixed"] == "true"


@pytest.mark.parametrize("leaky", [True, False])
def test_the_run_of_a_sweep_is_marked_as_leaky_if_its_cells_are(planned, driven, leaky):
    sweep = planned("seed=51,52")
    for number, cell in enumerate(sweep.cells()):
        run_id = finished_run(sweep, number, {"leaky": str(leaky and number == 1).lower()})
        cell.write(status="finished", run_id=run_id, metrics={"best/val/balanced_accuracy": 0.9})
    driven(sweep, ScriptedLauncher({}.get))
    tags = parent(sweep).tags
    assert (tags["val"], tags["leaky"], tags.get("leaks")) == ("0.900", str(leaky).lower(), "yes" if leaky else None)


def test_cells_that_are_to_differ_in_their_data_are_no_mixture(planned, driven):
    sweep = planned("dataset.num_lesions=90,95")
    finished_run(sweep, 0, fingerprint_of().tags())
    finished_run(sweep, 1, fingerprint_of(images="images 2", labels="labels 2").tags())
    driven(sweep, ScriptedLauncher({"dataset.num_lesions=90": 0.5, "dataset.num_lesions=95": 0.6}.get))
    assert parent(sweep).tags["mixed"] == "false"


def test_cells_are_grouped_by_all_but_their_seed_and_the_choices_are_compared(planned, driven):
    scores = {"focal": (0.60, 0.62, 0.64), "soft_f1": (0.61, 0.65, 0.60), "cross_entropy": (0.30, 0.31, 0.33)}
    script = {f"loss={loss} seed={n + 1}": value for loss, found in scores.items() for n, value in enumerate(found)}
    sweep = planned("loss=focal,soft_f1,cross_entropy", "seed=1,2,3")
    summary = driven(sweep, ScriptedLauncher(script.get))
    body = as_json(summary)
    assert [choice["overrides"]["loss"] for choice in body["choices"]] == ["focal", "soft_f1", "cross_entropy"]
    assert [choice["cells"] for choice in body["choices"]] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    first = body["choices"][0]["results"]["val/balanced_accuracy"]
    assert (first["runs"], first["mean"], first["standard_deviation"]) == (3, pytest.approx(0.62), pytest.approx(0.02))
    assert first["low"] < 0.62 < first["high"]
    against = [choice["against_best"] for choice in body["choices"]]
    assert against == ["best mean", "not distinguishable", "worse (p < 0.001)"]
    assert (body["best_choice"], body["best_cell"]) == ({"loss": "focal"}, None)
    run = parent(sweep)
    assert (run.tags["best_choice"], run.tags["best_cells"]) == ("loss=focal", "0,1,2")
    assert "best_run_id" not in run.tags
    assert run.metrics["best/val/balanced_accuracy"] == pytest.approx(0.62)
    assert (
        "Not distinguishable from it, given the variation between repeated runs: loss=soft_f1."
        in run.tags["mlflow.note.content"]
    )
    console = Console(width=200)
    with console.capture() as capture:
        console.print(as_table(summary))
    shown = capture.get()
    assert "focal 3 0.6200 0.0200" in " ".join(shown.split())
    assert shown.index("95% interval") < shown.index("status"), "the choices come before the cells"
    assert "best=" not in shown
    assert "*" not in shown


def test_on_a_narrow_terminal_every_part_of_the_table_names_the_whole_choice(planned, driven):
    """Two choices may have the same loss: what was found of one must not be read as that of the other."""
    rates = {"optimizer.lr=0.001": 0.6, "optimizer.lr=0.0001": 0.3}

    def scripted(cell):
        return next(value for rate, value in rates.items() if rate in cell.split()) + int(cell[-1]) / 50

    sweep = planned("loss=balanced_softmax,cross_entropy", "optimizer.lr=0.001,0.0001", "seed=1,2,3")
    summary = driven(sweep, ScriptedLauncher(scripted))
    console = Console(width=70)
    with console.capture() as capture:
        console.print(as_table(summary))
    choices = capture.get().split("cell")[0]
    rows = [line.split()[:2] for line in choices.splitlines() if line.startswith(("balanced_softmax", "cross_entropy"))]
    assert len(rows) > 4, "the table goes on below"
    assert {rate for _, rate in rows} == {"0.001", "0.0001"}


def test_choices_that_were_run_once_are_not_told_apart(planned, driven):
    script = {"loss=focal": 0.9, "loss=soft_f1": 0.1}
    body = as_json(driven(planned("loss=focal,soft_f1"), ScriptedLauncher(script.get)))
    assert body["best_cell"] == 0
    assert "no choice is shown to be better than another: add seed=1,2,3" in body["verdict"]


def test_ways_of_splitting_are_not_ranked_by_the_images_that_they_drew(planned, driven):
    script = {"split=grouped": 0.9, "split=by_image": 0.1}
    summary = driven(planned("split=grouped,by_image", "split.allow_leakage=true"), ScriptedLauncher(script.get))
    body = as_json(summary)
    assert body["verdict"].startswith("These choices are evaluated on different validation images, so none of them")
    assert body["best_cell"] is None
    assert "val" not in parent(summary.sweep).tags, "nor is the score of the easiest images that of the sweep"
    console = Console(width=100)
    with console.capture() as capture:
        console.print(as_table(summary))
    assert "*" not in capture.get()


def cells_of(values, seeds=("1", "2", "3"), key="seed", run_ids=None, **options):
    """Finished cells of each of the `values` with the seeds; those of the first value have the highest scores."""
    found = []
    for place, own in enumerate(values):
        for seed in seeds:
            metrics = {"val/balanced_accuracy": 0.9 - 0.3 * place + int(seed) / 1000}
            run_id = None if run_ids is None else run_ids[len(found)]
            cell = SimpleNamespace(number=len(found), values={**own, key: seed}, metrics=metrics, run_id=run_id)
            found.append(cell)
    return group_cells(found, ["val/balanced_accuracy"], ["maximize"], **options)


@pytest.mark.parametrize(
    ("key", "values", "sentence"),
    [
        ("split.train_share", "1.0 0.3", None),
        ("split.allow_leakage", "false true", None),
        ("dataset.mask", "crop none", None),
        ("dataset.pseudo_labels", "a.csv null", None),
        ("split.near_duplicates", "hashes features", "on different validation images"),
        ("split.ratios.train", "0.8 0.6", "on different validation images"),
        ("dataset.limit", "200 2000", "on different validation images"),
        ("dataset.view", "clinical dermoscopic", "on different validation images"),
        ("dataset.root", "raw cleaned", "on different validation images"),
        ("task.target", "malignant diagnosis", "by different tasks"),
    ],
)
def test_choices_are_ranked_if_they_are_evaluated_on_the_same_images_and_classes(key, values, sentence):
    found = cells_of([{key: value} for value in values.split()])
    against = [found.against_best(choice) for choice in found.ranked]
    if sentence is None:
        assert [choice.values for choice in found.front] == [{key: values.split()[0]}]
        assert against == ["best mean", "worse (p < 0.001)"]
    else:
        assert found.conclusion().startswith(f"These choices are evaluated {sentence}, so none of them is called")
        assert (found.front, against) == ((), ["", ""])


@pytest.mark.parametrize(("uses", "are_comparable"), [("crop none", False), ("crop channel", True)])
def test_choices_that_leave_out_other_images_are_not_ranked(uses, are_comparable):
    found = cells_of([{"dataset.mask": use} for use in uses.split()], skip_bad_images=True)
    assert found.are_comparable == bool(found.front) == are_comparable
    said = "These choices may be evaluated on different validation images, since dataset.on_bad_image=skip leaves out"
    assert found.conclusion().startswith(said) != are_comparable


def test_a_sweep_remembers_whether_images_that_cannot_be_used_are_left_out(planned, driven):
    script = {"dataset.mask=crop": 0.9, "dataset.mask=none": 0.1}
    for way, best in (("error", 1), ("skip", None)):
        sweep = planned("dataset.mask=none,crop", f"dataset.on_bad_image={way}")
        summary = driven(sweep, ScriptedLauncher(script.get))
        assert as_json(summary)["best_cell"] == best
        assert read_sweep(sweep.folder).facts.skip_bad_images == (way == "skip")


def test_cells_with_the_same_run_are_no_repetitions():
    losses = [{"loss": "focal"}, {"loss": "soft_f1"}]
    found = cells_of(losses, run_ids=["a", "b", "c", "d", "d", "d"])
    assert [choice.cells for choice in found.ranked] == [(0, 1, 2), (3,)]
    assert [choice.results["val/balanced_accuracy"].runs for choice in found.ranked] == [3, 1]


@pytest.mark.parametrize("key", ["split.share_seed", "dataset.drawing_seed"])
def test_the_seed_of_a_draw_is_no_choice(key):
    found = cells_of([{}], key=key)
    assert (len(found.ranked), found.front, found.repeated_by) == (1, (), (key,))


def test_draws_of_training_images_are_repeated_runs_on_the_same_split():
    losses = [{"loss": "focal"}, {"loss": "soft_f1"}]
    by_share, by_seed = (cells_of(losses, key=key) for key in ("split.share_seed", "seed"))
    assert [choice.results for choice in by_share.ranked] == [choice.results for choice in by_seed.ranked]


def test_a_cell_says_its_choice_for_grouping_in_mlflow(planned):
    sweep = planned("loss=focal,soft_f1", "seed=1,2")
    assert [cell_context(cell, sweep).tags["choice"] for cell in sweep.cells()] == ["loss=focal"] * 2 + [
        "loss=soft_f1"
    ] * 2
    assert {cell_context(cell, sweep).tags["choice"] for cell in planned("seed=1,2").cells()} == {"all cells"}


def test_the_command_that_continues_a_sweep_names_the_folders_that_were_typed(planned, tmp_path):
    sweep = planned("seed=1,2", f"paths.data_cache={tmp_path}/my cache")
    assert shlex.split(_command(sweep, "resume")) == [
        "lesion-exp", "sweep", "resume", sweep.facts.sweep_id, f"paths.data_cache={tmp_path}/my cache"
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_cells_names_epochs_runs_and_the_star(planned, width):
    sweep = planned("loss=focal,soft_f1,cross_entropy")
    done, half, _ = sweep.cells()
    done.write(status="finished", attempts=1, run_id="a" * 32, metrics={"best/val/balanced_accuracy": 0.6})
    half.write(status="running", attempts=1, host="another machine", started=time.time())
    report = {"epoch": 1, "max_epochs": 3, "val/balanced_accuracy": 0.7}
    half.reports.write_text(
        json.dumps(report) + "\n" + json.dumps({**report, "epoch": 2, "val/balanced_accuracy": 0.5})
    )
    (half.folder / RUN_FILE).write_text("b" * 32)
    console = Console(width=width)
    with console.capture() as capture:
        console.print(as_table(summarize(sweep)))
    said = " ".join(capture.get().split())
    rows = dict(line.split(maxsplit=1) for line in capture.get().splitlines() if line[:4].strip().isdecimal())
    assert "val/balanced_accuracy of the best epoch in finished cells, of the last epoch in cells that have not" in said
    assert rows["0"].split() == ["focal", "finished", "0.6000", "*", "aaaaaaaa"]
    assert rows["1"].split()[:5] == ["soft_f1", "running", "2/3", "0.5000", "0"]
    assert rows["1"].split()[-1] == "bbbbbbbb"
    assert rows["2"].split() == ["cross_entropy", "queued"]
    assert "* the best val/balanced_accuracy of the finished cells" in said
    assert [cell["run_id"] for cell in as_json(summarize(sweep))["cells"]] == ["a" * 32, "b" * 32, None]


def test_an_experiment_keeps_the_views_of_its_newest_sweeps(planned, driven, monkeypatch):
    monkeypatch.setattr("lesion_exp.tracking.view.MOST_SWEEP_VIEWS", 2)
    sweeps = []
    for second in range(3):
        monkeypatch.setattr("lesion_exp.sweeps.plan.new_sweep_id", lambda second=second: f"20260101-00000{second}-abcd")
        sweeps.append(planned("seed=1,2", "tracking.experiment=many sweeps"))
        driven(sweeps[-1], ScriptedLauncher(SCORES.get))
    runs = [parent(sweep) for sweep in sweeps]
    experiment = runs[0].store.client.get_experiment(runs[0].experiment_id)
    views = [f"lesion-exp-{sweep.facts.sweep_id}" for sweep in sweeps]
    kept = [f"mlflow.sharedViewState.{view}" in experiment.tags for view in views]
    assert kept == [False, True, True]
    notes = [run.tags["mlflow.note.content"] for run in runs]
    assert [f"viewStateShareKey={view}" in note for view, note in zip(views, notes, strict=True)] == kept
    assert "searchFilter=tags.sweep_id%20%3D%20%2720260101-000000-abcd%27" in notes[0], "the cells are still found"


@pytest.mark.parametrize(("digest", "fits"), [("same", True), ("other", False)])
def test_an_earlier_cell_fits_if_the_run_whose_results_it_has_was_trained_on_the_current_data(
    monkeypatch, digest, fits
):
    taken_over = SimpleNamespace(number=3, state=lambda: SimpleNamespace(run_id="a" * 32))
    runs = {"a" * 32: SimpleNamespace(tags={"data": digest})}
    monkeypatch.setattr(driver_module, "find_run", lambda store, run_id: runs[run_id])
    differences = {"same": [], "other": ["labels"]}
    current = SimpleNamespace(differences=lambda cell, tags: differences[tags["data"]], other_code=lambda *_: [])
    assert driver_module._Driver._fits(SimpleNamespace(store=None, current_data=current), taken_over) == fits
