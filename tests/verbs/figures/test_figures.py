import pytest

from lesion_exp.cli import main
from lesion_exp.evaluation.evaluation_result import EvaluationOptions, evaluate_table
from lesion_exp.evaluation.predictions import LABELS_ONLY
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run import TrackedRun
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.verbs.figures import figures
from tests.evaluation.conftest import make_table
from tests.refusal import assert_refused

CURVES = ("roc", "pr", "reliability")


@pytest.fixture
def run_of(store, monkeypatch):
    """Makes a run of the store that has predicted parts and other data."""
    monkeypatch.chdir(store.root)

    def make(**tables):
        params = {"evaluation": {"bootstrap_draws": 100}}
        with TrackedRun.start(store, "study", "mine", params=params, system_metrics_seconds=0) as run:
            for name, table in tables.items():
                path = f"predictions/{name}" if name in ("val", "test") else f"evaluation/{name}/predictions"
                run.log_table(table, f"{path}.parquet")
        return run.run_id

    return make


def test_each_format_has_each_figure(run_of, store, own_process, capsys):
    run_id = run_of(test=make_table(120), ph2=make_table(80, seed=2).assign(**{LABELS_ONLY: True}))
    assert main(["figures", f"run={run_id}", "format=pdf,svg", "output=drawn"]) == 0
    drawn = {path.name: path for path in (store.root / "drawn").iterdir()}
    assert sorted(capsys.readouterr().out.split()) == sorted(f"drawn/{name}" for name in drawn)
    for kind in (*CURVES, "confusion_matrix", "decision_curve"):
        assert drawn[f"{kind}_test.pdf"].read_bytes().startswith(b"%PDF")
        assert "<svg" in drawn[f"{kind}_test.svg"].read_text(encoding="utf-8")
    assert "confusion_matrix_ph2.pdf" in drawn
    assert not [name for name in drawn if "ph2" in name and name.startswith(CURVES)]  # it has classes alone


@pytest.fixture
def drawn_with(monkeypatch):
    """The options of each evaluation that `figures` draws, after whether it was given the fitted models."""
    evaluated, evaluate_table = [], figures.evaluate_table

    def noted(table, posthoc, options):
        evaluated.append((posthoc is not None, options))
        return evaluate_table(table, posthoc, options)

    monkeypatch.setattr(figures, "evaluate_table", noted)
    monkeypatch.setattr(figures, "save_figure", lambda figure, path, footer: path.touch())
    return evaluated


def test_each_evaluation_is_drawn_with_its_own_calibration(run_of, store, own_process, capsys, drawn_with):
    tables = {"val": make_table(120, seed=1), "test": make_table(120), "test-flips8": make_table(120, seed=2)}
    run_id = run_of(**tables, ph2=make_table(90, seed=3))
    writer = RunWriter.of(find_run(store, run_id))
    writer.log_json({"calibration": "isotonic"}, "evaluation/test/calibrated.json")
    writer.log_json({"calibration": "temperature"}, "evaluation/test-flips8/calibrated.json")
    assert main(["figures", f"run={run_id}", "format=svg", "output=drawn"]) == 0
    found = {(fits, options.calibration) for fits, options in drawn_with[1:]}
    assert found == {(True, "isotonic"), (False, "temperature"), (True, "none")}
    drawn = {path.stem for path in (store.root / "drawn").iterdir()}
    assert {"calibration_test", "decision_curve_test", "decision_curve_ph2", "roc_test-flips8"} <= drawn
    assert not {"calibration_test-flips8", "decision_curve_test-flips8", "calibration_ph2"} & drawn
    assert "which are not stored" in capsys.readouterr().err


def test_each_evaluation_is_drawn_as_its_last_metrics_were_computed(run_of, store, own_process, drawn_with):
    table = make_table(120).assign(lesion_id=None, patient_id=[f"pat{place // 4}" for place in range(120)])
    run_id = run_of(val=make_table(120, seed=1), test=table)
    writer = RunWriter.of(find_run(store, run_id))
    writer.log_json({"calibration": "isotonic"}, "evaluation/test/calibrated.json")  # of its training
    options = EvaluationOptions(60, 3, "patient")
    writer.log_json(evaluate_table(table, None, options).files()["metrics.json"], "evaluation/test/metrics.json")
    assert main(["figures", f"run={run_id}", "format=svg", "output=drawn"]) == 0
    (_, of_val), (_, of_test) = drawn_with
    assert of_test == options
    assert (of_val.draws, of_val.unit) == (100, "lesion"), "the parameters of the run"
    assert not (store.root / "drawn" / "calibration_test.svg").exists()


def test_mistakes_are_told(run_of, own_process, capsys):
    assert_refused(capsys, ["figures", f"run={run_of()}"], "expected a run with predictions")
    assert_refused(capsys, ["figures", "run=latest", "format=jpg"], "expected format to be one of")
