"""An ensemble keeps the test-time augmentation of each of its runs, whose networks were never trained."""

import json
from dataclasses import replace

import pytest

from lesion_exp.config.project import Project
from lesion_exp.evaluation.stacking import StackOptions
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import download_artifact
from lesion_exp.trained_runs.statements import calibration_warnings
from lesion_exp.trained_runs.trained_run import trained_run
from lesion_exp.verbs.evaluate.ensemble_run import evaluate_ensemble
from lesion_exp.verbs.evaluate.evaluation_report import as_text
from lesion_exp.verbs.evaluate.request import EvaluationRequest
from tests.untrained_run import untrained_run, validation_table


@pytest.fixture(scope="module")
def members(tmp_path_factory, empty_root):
    """Two runs with predictions of validation, the second with flips8."""
    root = tmp_path_factory.mktemp("project")
    found = []
    for seed, tta in enumerate(("none", "flips8")):
        run, config = untrained_run(root, f"seed={seed}", f"evaluation.tta={tta}")
        RunWriter.of(run).log_table(validation_table(seed), artifacts.predictions("val"))
        found.append(trained_run(find_run(run.store, run.run_id), Project.from_config(config)))
    return found


@pytest.mark.parametrize("way", ["mean", "stacked"])
def test_the_augmentation_of_each_run_is_kept(members, way, monkeypatch):
    monkeypatch.setattr(RunWriter, "log_figure", lambda *_: None)  # drawing takes longer than all else
    options = {**members[0].evaluation, "ensemble": way}
    joined = [replace(one, evaluation={**one.evaluation, "ensemble": way}) for one in members]
    request = EvaluationRequest("val", options, frozenset({"ensemble"}), stack=StackOptions(features=("predictions",)))
    evaluated = evaluate_ensemble(joined, request)
    assert "test-time augmentation: none, flips8\n" in as_text(evaluated)
    run = find_run(members[0].run.store, evaluated.run_id)
    assert run.params["evaluation.tta"] == "none, flips8"
    if way == "stacked":
        content = json.loads(download_artifact(run, artifacts.STACKING).read_text())
        assert content["tta"] == [["none"], ["flips8"]]
    (text,) = calibration_warnings(run, "temperature", "flips8")[-1:]
    assert text.endswith("without tta=, each network has the views on which it was fitted")
