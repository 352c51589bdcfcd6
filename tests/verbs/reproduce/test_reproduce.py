import json
import os
from dataclasses import replace

import pytest
import torch

from lesion_exp.cli import main
from lesion_exp.config.freeze import job_hash, read_job, relocated
from lesion_exp.config.project import Project
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.tracking.environment import SourceState
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.lightning_logger import TrackingLogger
from lesion_exp.tracking.stored_run import download_artifact
from lesion_exp.verbs.reproduce.reproduce import (
    THREADS_A_CORE,
    check,
    first_run,
    recorded_conditions,
    train_again,
    using_threads,
)
from lesion_exp.verbs.reproduce.reproduction_report import as_json, condition_lines
from tests.refusal import assert_refused

pytestmark = pytest.mark.usefixtures("no_pictures")


def names(checked):
    return {difference.name: difference for difference in checked.differences}


@pytest.fixture
def command(project, monkeypatch, capsys):
    """Runs the command in the project's folder; its exit code and what it printed on standard output."""
    monkeypatch.chdir(project[0])
    monkeypatch.setattr("lesion_exp.process.messages.show_messages", lambda: None)
    monkeypatch.setattr("lesion_exp.process.signals.end_on_sigterm", lambda: None)

    def call(*arguments):
        code = main(["reproduce", *arguments])
        return code, capsys.readouterr()

    return call


@pytest.mark.slow
def test_a_run_comes_to_the_same_again_and_is_linked_to_the_first(first):
    run, job = first
    checked = check(run, job)
    assert checked.differences == []
    assert checked.num_conditions > 50
    new_id, verdict = train_again(run, job, checked)
    assert verdict.kind == "identical"
    assert verdict.weights[0] == run.tags["weights_hash"]
    assert verdict.num_points > 50
    again = find_run(run.store, new_id)
    assert again.run_id != run.run_id
    assert (again.tags["reproduces"], again.tags["reproduction"]) == (run.run_id, "identical")
    assert again.tags["job_hash"] == run.tags["job_hash"]
    assert first_run(run.store, job).run_id == run.run_id


@pytest.mark.slow
def test_each_planted_difference_is_named(first, monkeypatch):
    run, job = first
    monkeypatch.setattr("lesion_exp.tracking.environment._packages", lambda: ["torch==0.0.1"])
    found = names(check(run, job))
    assert found["package torch"].now == "0.0.1"
    assert found["package numpy"].now is None
    monkeypatch.undo()
    elsewhere = SourceState("d" * 40, dirty=False, patch=None)
    monkeypatch.setattr("lesion_exp.verbs.reproduce.reproduce.source_state", lambda: elsewhere)
    assert f"git checkout {run.tags['git_commit']}" in str(names(check(run, job))["code commit"])
    monkeypatch.undo()
    with using_threads(torch.get_num_threads() + 1):
        checked = check(run, job)
        assert list(names(checked)) == ["threads"]
        assert checked.num_threads == torch.get_num_threads() - 1
    config = {**job.config, "dataset": {**job.config["dataset"], "num_lesions": 80}}
    assert set(names(check(run, replace(job, config=config)))) >= {"data", "split"}


@pytest.mark.slow
def test_more_threads_than_a_machine_bears_are_named_but_not_set(first, monkeypatch):
    run, job = first
    then = dict(recorded_conditions(run, job))
    most = THREADS_A_CORE * (os.cpu_count() or 1)
    for count, set_to in ((most, most), (most + 1, None)):
        then["threads"] = str(count)
        monkeypatch.setattr("lesion_exp.verbs.reproduce.reproduce.recorded_conditions", lambda *_: then)
        checked = check(run, job)
        assert checked.num_threads == set_to
        assert ("not set" in str(names(checked)["threads"])) == (set_to is None)


@pytest.mark.slow
def test_data_that_cannot_be_read_are_not_compared_and_do_not_count_as_different(first, monkeypatch):
    run, job = first
    usual = check(run, job)

    def lost(_):
        raise DataError("expected a folder with the files")

    monkeypatch.setattr("lesion_exp.verbs.reproduce.reproduce.load_data", lost)
    checked = check(run, job)
    assert checked.differences == []
    assert checked.not_compared[:2] == ("data", "split")
    assert checked.num_conditions + len(checked.not_compared) == usual.num_conditions
    assert usual.not_compared == ()
    said = list(condition_lines(checked))
    assert said[0].startswith("not compared, because the data cannot be read: data, split, data (")
    assert said[1] == f"conditions: all {checked.num_conditions} are the same"
    assert as_json(run.run_id, job.job_hash, checked)["not_compared"] == list(checked.not_compared)


@pytest.mark.slow
def test_a_run_that_diverges_says_where_first(project, first, command):
    run, _ = first
    logged = TrackingLogger.log_metrics

    def shifted(self, metrics, step=None):
        later = (step or 0) >= 2
        logged(self, {k: v + 0.5 if later and k == "train/loss" else v for k, v in metrics.items()}, step)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TrackingLogger, "log_metrics", shifted)
        code, shown = command(f"run={run.run_id[:8]}", "--json")
    assert code == 1
    answer = json.loads(shown.out)
    assert answer["verdict"] == "diverged"
    assert (answer["first_difference"]["metric"], answer["first_difference"]["epoch"]) == ("train/loss", 2)
    assert answer["first_difference"]["size"] == pytest.approx(0.5 / max(1, answer["first_difference"]["then"]))
    assert answer["weights"]["then"] == answer["weights"]["now"]
    assert find_run(run.store, answer["new_run"]).tags["reproduction"] == "diverged"


@pytest.mark.slow
def test_check_only_trains_nothing_and_takes_run_job_and_checkpoint(first, command):
    run, _ = first
    before = len(run.store.client.search_runs(run.store.experiment_ids()))
    path = download_artifact(run, "config/job.yaml")
    checkpoint = download_artifact(run, "checkpoints/best.ckpt")
    for source in (f"run={run.run_id}", f"job={path}", f"run={path}", f"run={checkpoint}"):
        code, shown = command(source, "--check-only", "--json")
        assert code == 0, shown.err
        answer = json.loads(shown.out)
        assert answer["run"] == run.run_id
        assert answer["differences"] == []
        assert "verdict" not in answer
    assert len(run.store.client.search_runs(run.store.experiment_ids())) == before


@pytest.mark.slow
def test_a_job_that_no_run_was_made_of_has_nothing_to_compare_with(first, command, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/empty.db")
    run, _ = first
    code, shown = command(f"job={download_artifact(run, 'config/job.yaml')}", "--check-only")
    assert code == 1, "a check that compared nothing has not passed"
    assert "nothing to compare with; export the run" in shown.out


@pytest.mark.slow
def test_a_run_that_did_not_finish_has_its_conditions_compared_only(first):
    run, job = first
    with pytest.raises(ConfigError, match="lesion-exp resume"):
        train_again(replace(run, status="KILLED"), job, check(run, job))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "one of run=ID, job=FILE and bundle=FILE"),
        (("run=a", "job=b"), "got run=a and job=b"),
        (("job=none.yaml",), "job=none.yaml"),
        (("run=latest", "tolerance=much"), "tolerance"),
        (("run=latest", "tolerance=-1"), "tolerance"),
    ],
)
def test_a_mistake_in_the_command_is_refused(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_bundle_is_told_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").write_text("no archive")
    assert_refused(capsys, ["reproduce", "bundle=notes"], "expected a whole bundle of lesion-exp bundle export")


@pytest.mark.slow
def test_a_job_runs_with_the_folders_of_this_machine(first, tmp_path):
    run, job = first
    frozen = read_job(download_artifact(run, "config/job.yaml"))
    project = Project.from_config(
        {
            "paths": {"root": str(tmp_path), "data_cache": str(tmp_path / "cache")},
            "tracking": {"uri": "sqlite:////here.db"},
        }
    )
    here = relocated(frozen, project, {})
    assert Project.from_config(here.config) == project
    assert here.config["dataset"]["root"] == str(tmp_path / "cache" / "synthetic")
    assert job_hash(here.config, here.files) == job.job_hash
    data = relocated(frozen, project, {"dataset.root": tmp_path / "data"})
    assert data.config["dataset"]["root"] == str(tmp_path / "data")
    for key in ("dataset.rot", "backbone.weights", "dataset.sets.ham", "seed"):
        with pytest.raises(ConfigError, match=key):
            relocated(frozen, project, {key: tmp_path})
