import json
import shutil

import pytest
import yaml

from lesion_exp.errors import ConfigError
from lesion_exp.sweeps.ledger import create_sweep
from lesion_exp.sweeps.parent_run import ParentRun
from lesion_exp.sweeps.plan import plan_sweep
from lesion_exp.sweeps.summary import summarize
from lesion_exp.sweeps.swept import find_swept
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.stored_run import download_artifact
from lesion_exp.verbs.report.page import render
from lesion_exp.verbs.report.sweep_report import sweep_page
from tests.tiny import TINY

VALUES = {"optimizer.lr=0.001 seed=1": 0.5, "optimizer.lr=0.001 seed=2": 0.7, "optimizer.lr=0.01 seed=1": 0.6}
ERROR = "ValueError: <b>no room</b>"


@pytest.fixture
def swept(store, root):
    """A sweep of four cells, one of which failed, without training; its ledger lies in the project."""
    plan = plan_sweep([*TINY, "optimizer.lr=0.001,0.01", "seed=1,2", "test=true"], root=root)
    sweep = create_sweep(root / "sweeps", plan.facts, plan.cells, [])
    for cell in sweep.cells():
        text = " ".join(cell.facts()[0])
        if text in VALUES:
            metrics = {"best/val/balanced_accuracy": VALUES[text], "test/balanced_accuracy": VALUES[text] - 0.1}
            cell.write(status="finished", run_id=f"{cell.number:032x}", metrics=metrics, started=10.0, ended=15.0)
        else:
            cell.write(status="failed", error=ERROR, started=10.0, ended=11.0)
            cell.log.write_text("the last words\n")
    with ParentRun(sweep, store) as parent:
        parent.finish(summarize(parent.sweep))
    return parent.sweep


def told(store, root, spec, outline):
    text = render(sweep_page(find_swept(store, root / "sweeps", spec)))
    return text, outline(text).text


def test_a_page_says_what_each_cell_came_to(store, root, swept, outline):
    text, words = told(store, root, "latest", outline)
    assert "4 cells: 3 finished, 1 failed." in words
    assert "Which choice of optimizer.lr has the best validation balanced accuracy?" in words
    assert "Not distinguishable from it, given the variation between repeated runs: optimizer.lr=0.01." in words
    assert "Best was" not in words
    assert "0 0.001 1 finished 0.5000 0.4000 5 s 00000000" in words
    row = text[text.index("Every cell") :].partition("<strong>0</strong>")[2].partition("</tr>")[0]
    assert row.count("<strong>") == 7, "all of the row of a best cell is bold"
    assert "optimizer.lr=0.001 validation balanced accuracy 2 0.6000 0.1414 0.000 to 1.000 best mean" in words
    assert "optimizer.lr=0.01 validation balanced accuracy 1 0.6000 – 0.000 to 1.000 not distinguishable" in words
    assert "optimizer.lr=0.001 test balanced accuracy 2 0.5000 0.1414" in words
    assert words.index("Each choice over its repeats (seed)") < words.index("Every cell")
    assert "3 cells of this sweep read the test part (test_readings of the sweep: 3)" in words
    assert f"Cell 3 (optimizer.lr=0.01 seed=2): {ERROR}" in words
    assert "the last words" in words
    assert "lesion-exp train -m experiment=demo" in words
    assert "<b>no room" not in text


def test_the_store_tells_the_same_where_the_ledger_is_gone(store, root, swept, outline):
    _, before = told(store, root, swept.facts.sweep_id, outline)
    shutil.rmtree(root / "sweeps")
    for spec in ("latest", swept.facts.sweep_id, swept.facts.parent_run_id[:8]):
        _, after = told(store, root, spec, outline)
        assert after == before.replace("The end of the log of cell 3 the last words ", "")


def test_cells_that_were_judged_as_one_are_shown(store, root, swept, outline, bare_run):
    metrics = [("test/balanced_accuracy", 0.81234, 0), ("test/balanced_accuracy_low", 0.75, 0)]
    metrics.append(("test/balanced_accuracy_high", 0.85, 0))
    bare_run(kind="ensemble", ensemble="mean", members=f"{0:032x},{1:032x}", metrics=metrics)
    bare_run(kind="ensemble", ensemble="rank", members=f"{0:032x},{99:032x}", metrics=metrics)
    _, words = told(store, root, "latest", outline)
    assert "mean of 2 cells test balanced accuracy 0.812 0.750 to 0.850" in words
    assert "rank of 2 cells" not in words


def test_a_sweep_that_never_came_to_its_end_is_told_by_its_runs(store, root, outline, bare_run):
    parent = bare_run(kind="sweep", sweep_id="20260101-000000-abcd", name="sweep of seed", status="KILLED")
    child = {"mlflow.parentRunId": parent.run_id, "kind": "train"}
    bare_run(kind="ensemble", members="", **{"mlflow.parentRunId": parent.run_id})
    bare_run(metrics=[("best/val/balanced_accuracy", 0.4, 1)], name="seed=1", **child)
    bare_run(status="FAILED", error="it broke", name="seed=2", **child)
    _, words = told(store, root, "20260101", outline)
    assert "2 cells: 1 finished, 1 failed." in words
    assert "it broke" in words


def test_a_cross_validation_is_told_as_one(store, root, outline, full_run):
    facts = {"keys": ["split.fold"], "search": {"metric": "val/balanced_accuracy", "direction": "maximize"}}
    cells = "cell,split.fold,status,val/balanced_accuracy,run_id,attempts,seconds,host,note,error\n"
    cells += "".join(f"{fold},{fold},finished,0.{fold + 4},{fold:032x},1,5,here,,\n" for fold in range(3))

    def add(folder):
        (folder / "sweep").mkdir()
        (folder / "sweep" / "sweep.json").write_text(json.dumps(facts))
        (folder / "sweep" / "cells.csv").write_text(cells)

    members = ",".join(f"{fold:032x}" for fold in range(3))
    full_run(add, kind="sweep", sweep_id="20260101-000000-abcd", ensemble="pooled", members=members)
    text, words = told(store, root, "latest", outline)
    assert "never seen in training, balanced accuracy was" in words
    assert "Best was" not in words
    assert "the best mean first: validation balanced accuracy choice runs mean" in words, "one metric has no column"
    assert "all cells 3 0.5000 0.1000 0.107 to 0.893" in words
    assert "Confusion matrix" in words
    assert len(set(outline(text).ids)) == len(outline(text).ids)


def test_commands_on_a_sweep_name_its_store(store, root, outline):
    plan = plan_sweep([*TINY, f"paths.root={root}", "seed=1,2"], root=root)
    sweep = create_sweep(root / "sweeps", plan.facts, plan.cells, [])
    with ParentRun(sweep, store) as parent:
        parent.finish(summarize(parent.sweep))
    _, words = told(store, root, "latest", outline)
    for command in (f"sweep resume {sweep.facts.sweep_id}", f"sweep retry {sweep.facts.sweep_id}", "report run=RUN",
                    "reproduce run=RUN dataset.root=DIR"):  # fmt: skip
        assert f"lesion-exp {command} paths.root=ROOT" in words
    assert str(root) not in words


def test_commands_on_a_sweep_trust_the_packages_of_its_cells(store, root, full_run, outline):
    def change(folder):
        path = folder / "config" / "job.yaml"
        body = yaml.safe_load(path.read_text())
        body["config"]["loss"]["_target_"] = "clinic_losses.margin"
        body["config"]["dataset"]["_target_"] = "lesion_exp.dataset.synthetic.read_synthetic"
        path.write_text(yaml.safe_dump(body))

    trained = full_run(change)
    plan = plan_sweep([*TINY, f"paths.root={root}", "seed=1,2"], root=root)
    sweep = create_sweep(root / "sweeps", plan.facts, plan.cells, [])
    first = next(iter(sweep.cells()))
    first.write(status="finished", run_id=trained.run_id, metrics={}, started=10.0, ended=15.0)
    with ParentRun(sweep, store) as parent:
        parent.finish(summarize(parent.sweep))
    _, words = told(store, root, sweep.facts.sweep_id, outline)
    own = "paths.root=ROOT --trust clinic_losses"
    for command in (f"sweep resume {sweep.facts.sweep_id}", f"sweep retry {sweep.facts.sweep_id}", "reproduce run=RUN"):
        assert f"lesion-exp {command} {own}" in words, "the lesions are drawn, so no folder of data is named"
    assert "ROOT is the folder of the project, in which mlruns is." in words
    assert "DIR is the folder of the data set" not in words


def test_unknown_sweeps_are_refused(store, root, swept):
    for spec in ("1999", swept.facts.sweep_id[:3], swept.facts.parent_run_id[:1]):
        with pytest.raises(ConfigError, match=r"expected a sweep's id.*\(at least 4 letters\)"):
            find_swept(store, root / "sweeps", spec)
    assert find_swept(store, root / "sweeps", swept.facts.sweep_id[:4]).facts["sweep_id"] == swept.facts.sweep_id


def test_the_sweep_s_run_shows_its_choices_in_mlflow(store, root, swept):
    run = find_run(store, swept.facts.parent_run_id)
    text = run.tags["mlflow.note.content"]
    assert "| optimizer.lr | runs | mean | sd | 95% interval | against the best |" in text
    assert f"![The choices](get-artifact?path=sweep%2Fchoices.png&run_uuid={run.run_id})" in text
    assert download_artifact(run, "sweep/choices.png").stat().st_size > 5000
    key = f"lesion-exp-{swept.facts.sweep_id}"
    assert f"#/experiments/{run.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}" in text
    saved = json.loads(store.client.get_experiment(run.experiment_id).tags[f"mlflow.sharedViewState.{key}"])
    assert "params.`optimizer.lr`" in json.loads(saved["state"])["selectedColumns"]
    assert run.tags["over seeds"] == "lr=0.001: 0.600 ± 0.141 (2 runs)"
    assert (run.tags["val"], run.tags["test"]) == ("0.600", "0.500")
    assert {name for name in run.metrics if not name.startswith("sweep/")} == {
        "best/val/balanced_accuracy", "test/balanced_accuracy",
    }  # fmt: skip


def test_cells_are_told_what_their_choice_came_to(store, root):
    plan = plan_sweep([*TINY, "optimizer.lr=0.001,0.01", "seed=1,2"], root=root)
    sweep = create_sweep(root / "sweeps", plan.facts, plan.cells, [])
    experiment = store.experiment_id("tests")
    for cell, value in zip(sweep.cells(), (0.5, 0.52, 0.8, 0.82), strict=True):
        run_id = store.client.create_run(experiment).info.run_id
        cell.write(status="finished", run_id=run_id, metrics={"best/val/balanced_accuracy": value})
    with ParentRun(sweep, store) as parent:
        parent.finish(summarize(parent.sweep))
    told = [find_run(store, cell.state().run_id).tags["over seeds"] for cell in sweep.cells()]
    assert told[0] == told[1] == "0.510 ± 0.014 (2 runs), worse (p = 0.002)"
    assert told[2] == told[3] == "0.810 ± 0.014 (2 runs), best mean"
