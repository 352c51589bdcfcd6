import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from lesion_exp.cli import main
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.sweeps.ledger import create_sweep, find_sweep
from lesion_exp.sweeps.parent_run import ParentRun
from lesion_exp.sweeps.plan import plan_sweep
from lesion_exp.sweeps.summary import summarize
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.store import open_store
from lesion_exp.trained_runs.printed_table import Entry, PrintedTable
from tests.evaluation.conftest import make_table
from tests.refusal import assert_refused
from tests.tiny import TINY

SKILL = {"focal": 3.0, "cross_entropy": 1.0}


def sweep_in(store):
    """A sweep of two losses, two rates and three seeds, without training: focal is much better, the rates are alike."""
    plan = plan_sweep(
        [*TINY, "loss=cross_entropy,focal", "optimizer.lr=0.001,0.01", "seed=0,1,2", "test=true"], root=store.root
    )
    sweep = create_sweep(store.root / "sweeps", plan.facts, plan.cells, [])
    expected = {}
    for cell in sweep.cells():
        values = dict(text.split("=") for text in cell.facts()[0])
        table = make_table(300, skill=SKILL[values["loss"]], seed=7)  # the same images and labels in all runs
        rng = np.random.default_rng(cell.number)
        columns = [name for name in table if name.startswith("p_")]
        noisy = np.exp(np.log(table[columns]) + rng.normal(0, 0.3, (300, 7)))
        table[columns] = (noisy.T / noisy.sum(axis=1).to_numpy()).T.astype(np.float32)
        table["prediction"] = table[columns].idxmax(axis=1).str[2:]
        found = {f"test/{name}": metrics(table)[name] for name in ("accuracy", "balanced_accuracy", "brier")}
        with TrackedRun.start(store, "study", "cell", {"kind": "train"}, system_metrics_seconds=0) as run:
            run.log_table(table, "predictions/test.parquet")
        told = {"best/val/balanced_accuracy": 0.5, **found}
        cell.write(status="finished", run_id=run.run_id, metrics=told, started=10.0, ended=15.0)
        expected.setdefault((values["loss"], values["optimizer.lr"]), []).append(found)
    with ParentRun(sweep, store) as parent:
        parent.finish(summarize(parent.sweep))
    return expected


@pytest.fixture(scope="module")
def shared_sweep(empty_root, tmp_path_factory):
    """The sweep, for tests that change nothing in it, and the folder of its project."""
    root = Path(shutil.copytree(empty_root, tmp_path_factory.mktemp("swept") / "project"))
    return sweep_in(open_store(None, root)), root


@pytest.fixture
def swept(shared_sweep, monkeypatch):
    """What the sweep came to; commands run in its project."""
    expected, root = shared_sweep
    monkeypatch.chdir(root)
    return expected


@pytest.fixture
def own_sweep(store, monkeypatch):
    """The ledger of such a sweep of the test's own; commands run in its project."""
    monkeypatch.chdir(store.root)
    sweep_in(store)
    return find_sweep(store.root / "sweeps", "latest")


def test_means_and_intervals_over_seeds_and_a_best_that_is_tested(swept, own_process, capsys):
    words = ["table", "sweep=latest", "rows=loss", "columns=optimizer.lr", "metric=test/accuracy", "format=csv"]
    assert main([*words, "evaluation.bootstrap_draws=200"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 4
    for row in rows:
        values = [found["test/accuracy"] for found in swept[row["loss"], row["optimizer.lr"]]]
        assert float(row["mean"]) == pytest.approx(np.mean(values), abs=1e-6)
        assert float(row["standard_deviation"]) == pytest.approx(np.std(values, ddof=1), abs=1e-6)
        assert float(row["low"]) < float(row["mean"]) < float(row["high"])
        assert row["runs"] == "3"
        assert row["best"] == "false"  # the two rates of focal cannot be told apart


def test_cells_without_a_result_are_counted_and_their_rows_are_shown(own_sweep, own_process, capsys):
    values = {cell.number: dict(text.split("=") for text in cell.facts()[0]) for cell in own_sweep.cells()}
    for cell in own_sweep.cells():
        if values[cell.number]["loss"] == "focal":
            cell.write(status="cancelled" if values[cell.number]["seed"] == "0" else "queued")
    words = ["table", "sweep=latest", "rows=loss", "metric=test/accuracy", "evaluation.bootstrap_draws=200"]
    missing = "3 of the 6 cells of the sweep have no result and do not count (1 cancelled, 2 queued)"
    assert main([*words, "where={optimizer.lr: 0.001}"]) == 0
    shown = capsys.readouterr()
    assert [line for line in shown.out.splitlines() if line.startswith("| focal |")] == ["| focal | - |"]
    assert missing in shown.out
    assert missing in shown.err
    assert main([*words, "columns=optimizer.lr", "format=csv"]) == 0
    assert "6 of the 12 cells of the sweep have no result" in capsys.readouterr().err


def test_cells_that_took_over_the_run_of_another_count_once(own_sweep, own_process, capsys):
    choice = {"loss=focal", "optimizer.lr=0.001"}
    first, *copies = [cell for cell in own_sweep.cells() if choice <= set(cell.facts()[0])]
    for cell in copies:
        cell.write(run_id=first.state().run_id, metrics=dict(first.state().metrics))
    words = ["table", "sweep=latest", "rows=loss", "columns=optimizer.lr", "metric=test/accuracy", "format=csv"]
    assert main([*words, "evaluation.bootstrap_draws=200"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    runs = {(row["loss"], row["optimizer.lr"]): row["runs"] for row in rows}
    assert runs.pop(("focal", "0.001")) == "1"
    assert list(runs.values()) == ["3"] * 3


def test_equal_runs_have_no_interval_and_the_caption_says_so(own_sweep, own_process, capsys):
    for cell in own_sweep.cells():
        cell.write(metrics={"best/val/balanced_accuracy": 0.5, "test/accuracy": 0.25})
    words = ["table", "sweep=latest", "rows=loss", "columns=optimizer.lr", "metric=test/accuracy"]
    assert main([*words, "evaluation.bootstrap_draws=200"]) == 0
    shown = capsys.readouterr().out
    assert "| focal | 0.250 | 0.250 |" in shown
    assert "without an interval: the runs of each cell have equal results" in shown
    assert "no result" not in shown


def test_results_of_validation_are_read_from_the_files_of_the_runs(own_sweep, store, own_process, capsys):
    written = {"balanced_accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}, "brier": {"value": 0.25}}
    for cell in own_sweep.cells():
        values = dict(text.split("=") for text in cell.facts()[0])
        RunWriter.of(find_run(store, cell.state().run_id)).log_json(written, "evaluation/val/metrics.json")
        if values["seed"] != "0":
            cell.write(status="cancelled")
    words = ["table", "sweep=latest", "rows=loss", "columns=optimizer.lr", "evaluation.bootstrap_draws=200"]
    assert main([*words, "metric=val/balanced_accuracy"]) == 0
    shown = capsys.readouterr().out
    assert "| focal | 0.500 (0.400 to 0.600) | 0.500 (0.400 to 0.600) |" in shown
    assert "with its 95% interval over lesions" in shown
    assert main([*words, "metric=val/brier"]) == 0
    assert "| focal | 0.250 | 0.250 |" in capsys.readouterr().out


def test_the_caption_says_what_the_intervals_of_single_runs_are_over(own_sweep, store, own_process, capsys):
    table = make_table(120).assign(lesion_id=None, patient_id=[f"pat{place // 4}" for place in range(120)])
    for cell in own_sweep.cells():
        if "seed=0" not in cell.facts()[0]:
            cell.write(status="cancelled")
            continue
        unit = "patient" if "loss=focal" in cell.facts()[0] else "lesion"
        entry = {"value": 0.5, "low": 0.4, "high": 0.6}
        writer = RunWriter.of(find_run(store, cell.state().run_id))
        writer.log_json({"unit": unit, "balanced_accuracy": entry}, "evaluation/val/metrics.json")
        writer.log_table(table, "predictions/val.parquet")
    words = ["table", "sweep=latest", "rows=loss", "metric=val/balanced_accuracy", "evaluation.bootstrap_draws=200"]
    assert main([*words, "where={optimizer.lr: 0.001, loss: focal}"]) == 0
    shown = capsys.readouterr().out
    assert "with its 95% interval over patients, which" in shown
    assert "too narrow" not in shown
    assert main([*words, "where={optimizer.lr: 0.001, loss: cross_entropy}"]) == 0
    shown = capsys.readouterr().out
    assert "with its 95% interval over lesions, which" in shown
    assert "nothing to compare" in shown
    assert (
        " ".join(shown.split()).count(
            "120 images of 30 patients are unknown, so that each of them counts as a lesion: the intervals are"
        )
        == 1
    )
    assert main([*words, "where={optimizer.lr: 0.001}"]) == 0
    assert "with its 95% interval over lesions or patients, which" in capsys.readouterr().out


def test_a_best_is_marked_where_each_other_is_worse(swept, own_process, capsys):
    words = ["table", "sweep=latest", "rows=loss", "metric=test/accuracy,test/brier", "evaluation.bootstrap_draws=200"]
    where = "where={optimizer.lr: 0.001}"
    assert main([*words, where, "format=latex"]) == 0
    latex = capsys.readouterr().out
    best = np.mean([found["test/accuracy"] for found in swept["focal", "0.001"]])
    assert rf"focal & \textbf{{{best:.3f}}} (" in latex
    assert latex.count(r"\textbf") == 2  # the lower Brier score is the better one
    lines = [line for line in latex.splitlines() if line.startswith("focal")]
    assert lines[0].count(r"\textbf") == 2
    assert r"cross\_entropy & 0." in latex
    assert "the mean of n = 3 runs that differ in seed" in latex
    assert main([*words, where, "output=table.md"]) == 0
    assert capsys.readouterr().out == "table.md\n"
    assert f"| focal | **{best:.3f}** (" in Path("table.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rows=loss"], "add columns=optimizer.lr, or where='{optimizer.lr: 0.001}'"),
        (["rows=backbone"], "got backbone"),
        (["rows=loss", "columns=loss"], "got loss in both"),
        (["rows=loss", "columns=optimizer.lr", "metric=test/auroc_macro"], "expected test/auroc_macro of each"),
        (["rows=loss", "where={optimizer.lr: 7}"], "got none of 12 with"),
        (["rows=loss", "format=tex"], "did you mean 'latex'?"),
    ],
)
def test_mistakes_are_told(words, said, swept, own_process, capsys):
    assert_refused(capsys, ["table", "sweep=latest", *words], said)


def test_special_characters_are_escaped():
    table = PrintedTable(["a_b", "50%"], [[[Entry("x|y*"), Entry("1", " < 2", bold=True)]]], 1, ["r & d"])
    assert r"a\_b & 50\% \\" in table.latex()
    assert r"x|y* & \textbf{1} $<$ 2 \\" in table.latex()
    assert r"\caption{R \& d.}" in table.latex()
    assert r"| x\|y\* | **1** < 2 |" in table.markdown()


def test_a_row_that_begins_with_a_bracket_or_a_star_is_no_argument_of_the_line_above():
    """`\\\\` and `\\midrule` take a bracket behind them as a length, also over the end of the line."""
    rows = [[Entry(name), Entry("1")] for name in ("[0.45,1.0]", "*", "plain [x]")]
    lines = PrintedTable(["[a]", "b"], [rows], 1, ["c"]).latex().splitlines()
    assert [line for line in lines if line.endswith(r"\\")] == [
        r"{}[a] & b \\", r"{}[0.45,1.0] & 1 \\", r"{}* & 1 \\", r"plain [x] & 1 \\",
    ]  # fmt: skip


def test_folds_are_tested_on_all_their_images_together(store, monkeypatch, own_process, capsys):
    monkeypatch.chdir(store.root)
    words = ["split=kfold", "split.num_folds=2", "split.fold=0,1", "loss=cross_entropy,focal", "test=true"]
    plan = plan_sweep([*TINY, *words], root=store.root)
    sweep = create_sweep(store.root / "sweeps", plan.facts, plan.cells, [])
    for cell in sweep.cells():
        values = dict(text.split("=") for text in cell.facts()[0])
        whole = make_table(300, skill=SKILL[values["loss"]], seed=7)
        table = whole[:150] if values["split.fold"] == "0" else whole[150:]
        with TrackedRun.start(store, "study", "cell", {"kind": "train"}, system_metrics_seconds=0) as run:
            run.log_table(table.reset_index(drop=True), "predictions/test.parquet")
        told = {"best/val/balanced_accuracy": 0.5, "test/accuracy": metrics(table)["accuracy"]}
        cell.write(status="finished", run_id=run.run_id, metrics=told, started=10.0, ended=15.0)
    with ParentRun(sweep, store) as parent:
        parent.finish(summarize(parent.sweep))
    command = ["table", "sweep=latest", "rows=loss", "metric=test/accuracy", "evaluation.bootstrap_draws=200"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "the mean of n = 2 runs that differ in split.fold" in shown
    assert "of the test part (300 images)" in shown
    assert "| focal | **" in shown
