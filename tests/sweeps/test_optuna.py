import importlib.util
import math
from pathlib import Path

import pytest
from rich.console import Console

from lesion_exp.config.shipped_conf import conf_dir
from lesion_exp.errors import ConfigError
from lesion_exp.sweeps import adaptive
from lesion_exp.sweeps.adaptive import SearchSession
from lesion_exp.sweeps.cell import CellState, will_repeat
from lesion_exp.sweeps.driver import cancel_waiting
from lesion_exp.sweeps.ledger import create_sweep, read_sweep
from lesion_exp.sweeps.plan import plan_sweep
from lesion_exp.sweeps.search.optuna import JOURNAL, OptunaSearch
from lesion_exp.sweeps.search.search import Dimension
from lesion_exp.sweeps.summary import as_json, as_table, summarize
from tests.sweeps.conftest import TINY, ScriptedLauncher
from tests.sweeps.test_driver import parent, statuses

RATE = Dimension("optimizer.lr", low=1e-4, high=1e-1, is_log=True)
SIZE = Dimension("image_size", low=32, high=64, is_integer=True)
LOSS = Dimension("loss", ("focal", "soft_f1"))
RATES = "optimizer.lr=tag(log,interval(1e-4,1e-1))"


def search(**changes):
    keys = {
        "metric": "val/balanced_accuracy", "direction": "maximize", "num_cells": 12, "sampler": "tpe",
        "startup_cells": 3, "seed": 0, "pruner": "none", "pruner_startup_cells": 1, "warmup_epochs": 1, "max_epochs": 9,
    }  # fmt: skip
    return OptunaSearch(**{**keys, **changes})


def begun(folder, dimensions=(RATE, SIZE), known=(), **changes):
    found = search(**changes)
    found.begin(dimensions, folder, known)
    return found


def score(suggestion):
    """The nearer the rate is to 1e-2, the better."""
    return 1 - abs(math.log10(rate(suggestion)) + 2) / 3


def rate(suggestion):
    return float(suggestion[0].partition("=")[2])


def scripted(text):
    return score(text.split())


def trials(sweep):
    """What Optuna itself finds in the sweep's folder."""
    from optuna import load_study
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(sweep.folder / JOURNAL)))).trials


def states(found):
    return [trial.state.name for trial in found]


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsga2", "random"])
def test_a_study_opened_again_goes_on_as_if_it_had_not_been_closed(tmp_path, sampler):
    through = begun(tmp_path / "through", sampler=sampler)
    again = None
    for number in range(12):
        again = begun(tmp_path / "again", sampler=sampler)
        expected, found = through.ask(), again.ask()
        assert found == expected
        assert found[0] == number
        size = found[1][1].partition("=")[2]
        assert 1e-4 <= rate(found[1]) <= 1e-1
        assert size.isdigit()
        assert 32 <= int(size) <= 64
        for one in (through, again):
            one.tell(number, [score(found[1])])
    assert through.ask() is None
    assert begun(tmp_path / "again", sampler=sampler).ask() is None


def test_tpe_learns_from_what_it_is_told(tmp_path):
    found = begun(tmp_path, num_cells=20, startup_cells=5)
    scores = []
    while (asked := found.ask()) is not None:
        scores.append(score(asked[1]))
        found.tell(asked[0], scores[-1:])
    assert sum(scores[-10:]) / 10 > sum(scores[:5]) / 5 + 0.1


def test_choices_are_kept_in_hydras_spelling(tmp_path):
    found = begun(tmp_path, (Dimension("trainer.devices", ("[0]", "[1]", "[0]")), LOSS))
    for _ in range(4):
        devices, loss = found.ask()[1]
        assert devices in {"trainer.devices=[0]", "trainer.devices=[1]"}
        assert loss in {"loss=focal", "loss=soft_f1"}


def test_what_was_asked_for_and_became_no_cell_does_not_count(tmp_path):
    first = begun(tmp_path, num_cells=3)
    first.tell(first.ask()[0], [0.5])
    kept, lost = first.ask()[0], first.ask()[0]
    second = begun(tmp_path, num_cells=3, known=[0, kept])
    assert states(second._trials()) == ["COMPLETE", "RUNNING", "FAIL"]
    assert second.ask()[0] == lost + 1
    assert second.ask() is None


def test_telling_twice_does_nothing_and_a_retry_is_told_once(tmp_path):
    found = begun(tmp_path)
    for values in ([0.5], None, [math.nan]):
        found.tell(found.ask()[0], values)
    found.tell(0, [0.9])
    found.tell(0, None)
    found.tell(1, None)
    assert states(found._trials()) == ["COMPLETE", "FAIL", "FAIL"]
    assert found._trials()[0].value == 0.5
    for opened in (found, begun(tmp_path)):
        opened.tell(1, [0.7])
    assert states(opened._trials()) == ["COMPLETE", "FAIL", "FAIL", "COMPLETE"]
    assert opened._trials()[3].params == opened._trials()[1].params


def test_a_journal_that_was_torn_is_read(tmp_path):
    begun(tmp_path).ask()
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"wor')
    (tmp_path / f"{JOURNAL}.lock").symlink_to(journal)
    found = begun(tmp_path, known=[0])
    assert journal.read_bytes().startswith(whole)
    found.tell(0, [0.5])
    assert states(begun(tmp_path)._trials()) == ["COMPLETE"]


def test_median_ends_what_is_behind_after_the_warm_up(tmp_path):
    found = begun(tmp_path, pruner="median", warmup_epochs=2)
    for number, value in enumerate((0.5, 0.6, 0.1)):
        assert found.ask()[0] == number
        stops = [found.should_stop(number, epoch, value) for epoch in (1, 2, 3)]
        assert stops == ([False, False, True] if value == 0.1 else [False] * 3)
        found.tell(number, [value], pruned=any(stops))
    found = begun(tmp_path, pruner="median")
    assert states(found._trials()) == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert found._trials()[2].value == 0.1, "a pruned trial has its last value"
    assert found._trials()[2].intermediate_values == {1: 0.1, 2: 0.1, 3: 0.1}


def test_hyperband_ends_some_cells_early_and_lets_the_best_train_on(tmp_path):
    found = begun(tmp_path, num_cells=12, pruner="hyperband", max_epochs=9, sampler="random")
    ended = {}
    for value in (0.9, 0.1, 0.2, 0.3, 0.15, 0.25, 0.35, 0.05, 0.4, 0.12, 0.22, 0.32):
        number, _ = found.ask()
        epochs = [epoch for epoch in range(1, 10) if found.should_stop(number, epoch, value)]
        ended[value] = epochs[0] if epochs else None
        found.tell(number, [value], pruned=bool(epochs))
    assert ended[0.9] is None
    assert {epoch for epoch in ended.values() if epoch} <= {1, 3, 9}
    assert sum(epoch is not None and epoch < 9 for epoch in ended.values()) >= 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler": "tpee"}, "one of tpe, cmaes"),
        ({"pruner": "mean"}, "one of none, median"),
        ({"num_cells": 0}, "num_cells of at least 1"),
        ({"startup_cells": 1}, "startup_cells of at least 2"),
        ({"pruner": "hyperband", "max_epochs": None}, "max_epochs above"),
        ({"metric": ["val/loss", "val/accuracy"], "direction": ["minimize", "maximize"], "pruner": "median"}, "none"),
        ({"metric": ["val/loss", "val/accuracy"], "direction": ["minimize", "maximize"], "sampler": "cmaes"}, "nsga2"),
        ({"metric": "test/accuracy"}, "a metric of validation"),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        search(**changes)


def test_cmaes_needs_intervals(caplog):
    with pytest.raises(ConfigError, match="two intervals"):
        search(sampler="cmaes").all_cells([RATE, LOSS])
    search(sampler="cmaes").all_cells([RATE, SIZE, LOSS])
    assert "optimises optimizer.lr, image_size only" in caplog.text


def test_it_says_that_every_cell_is_drawn_at_random(caplog):
    search(num_cells=3).all_cells([RATE])
    assert "search.startup_cells=3" in caplog.text


@pytest.mark.parametrize(("package", "more"), [("optuna", ()), ("cmaes", ("search.sampler=cmaes",))])
def test_a_missing_package_is_said_before_anything_is_written(project, monkeypatch, package, more):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else there(name))
    before = sorted(project.rglob("*"))
    with pytest.raises(ConfigError, match=f"pip install {package}"):
        plan_sweep(
            [*TINY, "search=optuna", RATES, "loss.gamma=interval(0,2)", "loss=focal", *more], root=project
        ).check()
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize(
    ("override", "words"), [("loss=focal,focl", "did you mean 'focal'"), ("loss.gama=interval(1,2)", "gama")]
)
def test_a_mistake_in_any_value_is_noticed_before_the_first_cell(project, override, words):
    with pytest.raises(ConfigError, match=words):
        plan_sweep([*TINY, "search=optuna", RATES, override], root=project).check()


def test_a_sweep_asks_for_its_cells_and_goes_on_where_it_was_stopped(planned, driven):
    sweep = planned("search=optuna", "search.num_cells=6", "search.startup_cells=2", RATES)
    assert summarize(sweep).counts() == {"queued": 6}
    with pytest.raises(KeyboardInterrupt):
        driven(sweep, ScriptedLauncher(scripted, capacity=2, stop_after=3))
    lost = SearchSession.of(sweep).search.ask()[0]  # as if the driver died before the cell was written down
    waiting = [cell for cell in sweep.cells() if cell.state().status == "queued"]
    finished = {"best/val/balanced_accuracy": 0.25}
    waiting[0].write(status="finished", metrics=finished)  # as if it ended while no driver lived
    again = ScriptedLauncher(scripted, capacity=2)
    summary = driven(sweep, again)
    assert summary.counts() == {"finished": 6}
    found = trials(sweep)
    assert states(found) == ["FAIL" if number == lost else "COMPLETE" for number in range(7)]
    assert [cell.trial() for cell in sweep.cells()] == [number for number in range(7) if number != lost]
    assert [found[cell.trial()].value for cell in sweep.cells()] == [
        cell.state().metrics["best/val/balanced_accuracy"] for cell in sweep.cells()
    ]
    assert found[waiting[0].trial()].value == 0.25
    assert parent(sweep).status == "FINISHED"
    last = ScriptedLauncher(scripted)
    driven(sweep, last)
    assert last.order == []
    assert len(trials(sweep)) == 7, "nothing is told or asked twice"


def test_a_failed_cell_is_told_and_so_is_its_retry(planned, driven):
    sweep = planned("search=optuna", "search.num_cells=3", RATES)
    driven(sweep, ScriptedLauncher(lambda text: RuntimeError("no luck") if len(sweep.cells()) == 2 else 0.5))
    assert states(trials(sweep)) == ["COMPLETE", "FAIL", "COMPLETE"]
    driven(sweep, ScriptedLauncher(scripted), ("failed",))
    assert statuses(sweep) == ["finished"] * 3
    assert states(trials(sweep)) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


def test_cells_that_are_behind_are_pruned_while_they_run(planned, driven):
    sweep = planned("search=optuna", "search.num_cells=3", "search.pruner=median", "search.pruner_startup_cells=1",
                    "search.warmup_epochs=1", RATES)  # fmt: skip
    curves = ([0.5] * 4, [0.1] * 4, [0.6] * 4)
    driven(sweep, ScriptedLauncher(lambda _: curves[len(sweep.cells()) - 1]))
    notes = [cell.state().note for cell in sweep.cells()]
    assert notes == [None, "pruned", None]
    assert states(trials(sweep)) == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert [trial.value for trial in trials(sweep)] == [0.5, 0.1, 0.6]
    assert [len(trial.intermediate_values) for trial in trials(sweep)] == [4, 2, 4], "heard to the last epoch"
    SearchSession.of(sweep)
    assert states(trials(sweep)) == ["COMPLETE", "PRUNED", "COMPLETE"]


def test_the_same_job_is_trained_once(planned, driven):
    sweep = planned("search=optuna", "search.num_cells=5", "loss=focal,soft_f1")
    launcher = ScriptedLauncher({"loss=focal": 0.5, "loss=soft_f1": 0.7}.get)
    summary = driven(sweep, launcher)
    assert sorted(launcher.order) == sorted(set(launcher.order))
    assert summary.counts() == {"finished": 5}
    assert sum("the same job as cell" in (cell.state().note or "") for cell in sweep.cells()) == 5 - len(launcher.order)
    assert [len(choice.cells) for choice in summary.choices.ranked] == [1] * len(launcher.order), "and is one result"
    assert states(trials(sweep)) == ["COMPLETE"] * 5


def test_a_combination_that_cannot_be_used_is_left_out(planned, driven, monkeypatch, caplog):
    sweep = planned("search=optuna", "search.num_cells=3", RATES)
    checked = []

    def refuse_second(job, suggestion, *_):
        checked.append(suggestion)
        if len(checked) == 2:
            raise ConfigError("these do not go together")

    monkeypatch.setattr(adaptive, "check_cell", refuse_second)
    driven(sweep, ScriptedLauncher(scripted))
    assert statuses(sweep) == ["finished"] * 3
    assert states(trials(sweep)) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert "these do not go together" in caplog.text


def test_what_failed_is_not_proposed_again(planned, driven, caplog):
    def script(text):
        return RuntimeError("out of memory") if text == "loss=soft_f1" else 0.5

    sweep = planned("search=optuna", "search.num_cells=6", "loss=focal,soft_f1")
    launcher = ScriptedLauncher(script)
    caplog.set_level("INFO", "lesion_exp")
    summary = driven(sweep, launcher)
    assert launcher.order.count("loss=soft_f1") == 1
    assert summary.counts() == {"finished": 5, "failed": 1}
    assert "not tried again: loss=soft_f1, which failed as cell" in caplog.text


def test_a_search_that_proposes_only_what_failed_ends(planned, driven, caplog, monkeypatch):
    monkeypatch.setattr(adaptive, "MOST_REPEATED", 5)
    sweep = planned("search=optuna", "search.num_cells=6", "loss=focal,soft_f1")
    launcher = ScriptedLauncher(lambda text: RuntimeError("out of memory"))
    summary = driven(sweep, launcher)
    assert sorted(launcher.order) == ["loss=focal", "loss=soft_f1"]
    assert summary.counts() == {"failed": 2}
    assert "only combinations that have failed already" in caplog.text
    resumed = driven(sweep, ScriptedLauncher(scripted))
    assert resumed.counts() == {"failed": 2}


@pytest.mark.parametrize(
    ("error", "repeats"),
    [
        ("expected optimizer.lr above 0", True),
        ("RuntimeError: out of memory", True),
        ("OutOfMemoryError: CUDA out of memory", True),
        ("OSError: [Errno 28] No space left on device", False),
        ("ConnectionRefusedError: the store does not answer", False),
        ("MlflowException: the store does not answer", False),
    ],
)
def test_a_failure_repeats_unless_the_machine_was_the_reason(error, repeats):
    assert will_repeat(CellState(status="failed", error=error)) is repeats
    assert not will_repeat(CellState(status="queued", error=error))


def test_a_cancelled_sweep_asks_for_nothing_more(planned, driven):
    sweep = planned("search=optuna", "search.num_cells=4", RATES)
    with pytest.raises(KeyboardInterrupt):
        driven(sweep, ScriptedLauncher(scripted, stop_after=1))
    sweep.cancel_file.touch()
    cancel_waiting(sweep)
    assert summarize(sweep).counts() == {"finished": 1, "cancelled": 3}
    driven(sweep, ScriptedLauncher(scripted), ("cancelled",))
    assert statuses(sweep) == ["finished"] * 4


def test_several_metrics_end_in_a_pareto_front(planned, driven):
    sweep = planned("search=optuna", "search.sampler=nsga2", "search.num_cells=8", "search.startup_cells=3",
                    "search.metric=[val/balanced_accuracy,val/loss]", "search.direction=[maximize,minimize]",
                    RATES)  # fmt: skip
    names = ("val/balanced_accuracy", "val/loss")
    values = iter([(0.5, 0.5), (0.6, 0.9), (0.4, 0.6), (0.5, 0.4), (0.7, 0.9), (0.5, 0.4), (math.nan, 0.1), (0.2, 0.4)])
    summary = driven(sweep, ScriptedLauncher(lambda _: dict(zip(names, next(values), strict=True))))
    assert [row.number for row in summary.best_rows()] == [3, 4, 5]
    body = as_json(summary)
    assert (body["pareto"], body["best_cell"]) == ([3, 4, 5], None)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(as_table(summary))
    assert "Pareto front" in capture.get()
    marked = [line for line in capture.get().splitlines() if "0.7000 *" in line]
    assert "0.9000 *" in marked[0]
    assert "best" not in capture.get().replace("of the best epoch", "")  # of no choice
    run = parent(sweep)
    assert run.tags["pareto_cells"] == "3,4,5"
    assert "best_cell" not in run.tags
    assert (run.metrics["sweep/best/val/balanced_accuracy"], run.metrics["sweep/best/val/loss"]) == (0.7, 0.4)
    assert "first 3 are its Pareto front" in run.tags["mlflow.note.content"]


def written_down(folder, project, *overrides):
    """A search in a ledger, of which no cell was checked."""
    plan = plan_sweep(["search=optuna", "backbone=small_cnn", *overrides], root=project)
    return create_sweep(folder, plan.facts, plan.cells, [conf_dir()])


@pytest.mark.parametrize("typed", ["absolute", "quoted"])
def test_a_search_whose_files_lie_in_the_home_folder_is_resumed(project, tmp_path, monkeypatch, typed):
    monkeypatch.setenv("HOME", str(tmp_path))
    weights = [tmp_path / "a.pth", tmp_path / "b.pth"]
    for path in weights:
        path.write_bytes(path.name.encode())
    choices = ",".join(map(str, weights)) if typed == "absolute" else "'~/a.pth','~/b.pth'"
    sweep = written_down(
        tmp_path / "sweeps", project, RATES, f"backbone.weights={choices}", f"dataset.root={tmp_path}/drawn"
    )
    assert str(tmp_path) not in (sweep.folder / "sweep.json").read_text()
    for opened in (sweep, read_sweep(sweep.folder)):
        config = SearchSession.of(opened).next_cell().job().config
        assert config["dataset"]["root"] == str(tmp_path / "drawn")
        assert Path(config["backbone"]["weights"]) in weights
    assert len(sweep.cells()) == 2


def test_a_search_that_is_resumed_elsewhere_reads_the_same_files(project, tmp_path, monkeypatch):
    here, elsewhere, machine = (tmp_path / name for name in ("here", "elsewhere", "machine"))
    for folder in (here, elsewhere, machine / "ham10000"):
        folder.mkdir(parents=True)
    (here / "a.pth").write_bytes(b"a")
    monkeypatch.chdir(here)
    monkeypatch.setenv("LESION_EXP_DATA", str(machine))
    sweep = written_down(tmp_path / "sweeps", project, RATES, "dataset=ham10000", "backbone.weights=a.pth,none",
                         "split=file", "split.path=parts.csv")  # fmt: skip
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("LESION_EXP_DATA")
    maker = SearchSession.of(read_sweep(sweep.folder)).maker
    config = maker.compose(("optimizer.lr=0.01", "backbone.weights=a.pth")).config
    assert config["dataset"]["root"] == str(machine / "ham10000")
    assert config["split"]["path"] == str(here / "parts.csv")
    assert config["backbone"]["weights"] == str(here / "a.pth")


def test_a_search_whose_data_are_gone_makes_no_cell_that_would_fail(project, tmp_path, monkeypatch):
    monkeypatch.setattr(adaptive, "MOST_REFUSED", 1)
    sweep = written_down(tmp_path / "sweeps", project, RATES, "dataset=ham10000", f"dataset.root={tmp_path}/gone")
    with pytest.raises(ConfigError, match="gone"):
        SearchSession.of(sweep).next_cell()
    assert sweep.cells() == []


def test_a_folder_of_data_is_a_choice(project, tmp_path, driven):
    folders = {str(tmp_path / "raw"): 0.3, str(tmp_path / "cleaned"): 0.7}
    sweep = written_down(tmp_path / "sweeps", project, "search.num_cells=6", f"dataset.root={','.join(folders)}")
    launcher = ScriptedLauncher({f"dataset.root={folder}": value for folder, value in folders.items()}.get)
    driven(sweep, launcher)
    assert len(launcher.order) == 2, "each is trained once"
    for cell in sweep.cells():
        root = cell.job().config["dataset"]["root"]
        assert cell.state().metrics["best/val/balanced_accuracy"] == folders[root]
