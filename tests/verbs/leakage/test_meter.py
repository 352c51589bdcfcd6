import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lesion_exp.choices import WAYS_TO_SPLIT as WAYS
from lesion_exp.cli import main
from lesion_exp.evaluation.predictions import predictions_table
from lesion_exp.sweeps.ledger import create_sweep
from lesion_exp.tracking.find import find_run, find_tagged
from lesion_exp.tracking.run_writer import RunWriter
from lesion_exp.tracking.stored_run import artifact_names
from lesion_exp.verbs.leakage.leakage_report import show_report
from lesion_exp.verbs.leakage.meter import CLEAN, measure
from tests.verbs.leakage.conftest import FEW

RIGHT = {"grouped": 60, "by_image": 75, "resample_then_split": 95}
"""Images of its own test part, of 100, that each network gets right; on the clean part all get 60."""
SHARES = {"grouped": (0.0, 0.0), "by_image": (0.0, 0.4), "resample_then_split": (0.93, 0.95)}


def predicted(num_right, prefix):
    labels = np.array(["mel", "nv"])[np.arange(100) % 2]
    probs = np.where((labels == "mel") == (np.arange(100) < num_right), 0.9, 0.1)
    names = [f"{prefix}{place}" for place in range(100)]
    common = {"patient_id": None, "label": labels, "age": 50.0, "sex": "female", "site": "back", "source": "made"}
    rows = pd.DataFrame({"image_id": names, "row_id": names, "lesion_id": names, **common})
    return predictions_table(rows, np.stack([probs, 1 - probs], axis=1), ("mel", "nv"))


@pytest.fixture(scope="module")
def trained(plan, project, tmp_path_factory):
    """A meter whose cells have finished: their runs keep predictions, nothing was trained."""
    store = plan.first_cell.project.store
    sweep = create_sweep(tmp_path_factory.mktemp("sweeps"), plan.facts, plan.cells, [])

    def new_run(name):
        return store.client.create_run(store.experiment_id("lesion_exp"), run_name=name).info

    for cell, way in zip(sweep.cells(), WAYS, strict=True):
        info = new_run(way)
        run = RunWriter(store, info.run_id, info.artifact_uri)
        run.log_table(predicted(RIGHT[way], way), "predictions/test.parquet")
        run.log_table(predicted(60, "clean"), CLEAN)
        image, lesion = SHARES[way]
        shares = {"test_rows_with_image_in_train": {"all": image}, "test_rows_with_lesion_in_train": {"all": lesion}}
        run.log_json(
            {"parts": {"train": {"images": 400}}, "unnamed_images": 1, "num_images": 800, **shares}, "split/audit.json"
        )
        cell.write(status="finished", run_id=info.run_id)
    return sweep.with_parent(new_run("sweep").run_id), store


@pytest.fixture(scope="module")
def measured(trained):
    return measure(*trained)


def test_the_inflation_by_a_mistake_is_its_own_score_less_that_on_the_clean_part(measured):
    found = {arm.way: arm.scores["accuracy"] for arm in measured.report.arms}
    assert {way: score.own.value for way, score in found.items()} == {way: n / 100 for way, n in RIGHT.items()}
    assert all(score.clean.value == 0.6 for score in found.values())
    assert found["resample_then_split"].inflation.value == pytest.approx(0.35)
    assert found["resample_then_split"].inflation.low > 0.2
    assert found["grouped"].inflation.low < 0 < found["grouped"].inflation.high
    assert {arm.way: (arm.image_in_train, arm.lesion_in_train) for arm in measured.report.arms} == SHARES
    for arm in measured.report.arms:
        found = arm.against_grouped["accuracy"]
        assert (found.value, found.low) == pytest.approx((0, -found.high))


def test_it_is_kept_with_the_run_of_the_sweep(measured, trained):
    run = find_run(trained[1], measured.report.run_id)
    kept = {"leakage/leakage.json", "leakage/leakage.md", "leakage/leakage.png"}
    assert kept <= artifact_names(run)
    assert measured.figure.is_file()
    assert run.metrics["leakage/by_image/accuracy/inflation"] == pytest.approx(0.15)
    assert (
        run.metrics["leakage/by_image/accuracy/inflation_low"]
        < 0.15
        < run.metrics["leakage/by_image/accuracy/inflation_high"]
    )
    assert run.metrics["leakage/resample_then_split/image_in_train"] == 0.93
    assert "resample_then_split | 93.0% | 95.0% | 0.950 | 0.600 | +0.350" in run.tags["mlflow.note.content"]
    assert run.name.startswith("leak meter: small_cnn on synthetic")


def test_the_words_say_what_can_be_told_from_chance(measured):
    control, _, _, resampled, on_clean = measured.report.remarks()
    assert "not distinguishable from 0, as expected" in control
    assert resampled.startswith("resample_then_split inflates its own score: +0.35")
    assert "resample_then_split differs from grouped by +0.000 (-0.0" in on_clean
    swapped = [replace(arm, way={"grouped": "by_image", "by_image": "grouped"}.get(arm.way, arm.way))
               for arm in measured.report.arms]  # fmt: skip
    lucky = replace(measured.report, arms=tuple(swapped)).remarks()[2]
    assert "grouped, the control: +0.15" in lucky
    assert "this is the effect of the random choice of the test part" in lucky


def test_on_ham10000_the_popular_figure_stands_beside_the_measured_one(measured):
    report = replace(measured.report, dataset="ham10000")
    said = report.remarks()[-1]
    assert "the popular 92% accuracy" in said
    assert (
        "93.0% of the test rows of resample_then_split have their identical image in train, 95.0% their lesion" in said
    )
    assert "accuracy is 0.950 on them and 0.600 on the clean part" in said
    assert report.to_dict()["popular_accuracy"] == 0.92
    assert measured.report.to_dict()["popular_accuracy"] is None
    assert len(measured.report.remarks()) == 5


def test_images_without_lesion_and_patient_put_the_reading_in_doubt(measured):
    assert measured.report.unnamed == 1 / 800
    doubted = replace(measured.report, unnamed=0.4).remarks()
    assert any("40% of the images have neither lesion nor patient" in remark for remark in doubted)
    assert not any("have neither" in remark for remark in measured.report.remarks())


def test_the_tables_fit_into_80_columns(measured):
    shown = io.StringIO()
    show_report(measured.report, Console(width=80, file=shown, color_system=None))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if re.match(r"resample_then_split\s+93\.0%\s+95\.0%\s+0\.950\s+0\.600", line))
    assert re.search(r"[+-]\d\.\d{3} to [+-]\d\.\d{3}", row)


@pytest.mark.slow
@pytest.mark.usefixtures("own_process")
def test_the_whole_meter_trains_three_networks_once_and_reads_them_again(capsys, project, plan, monkeypatch):
    monkeypatch.chdir(project)
    command = ["leakage", *FEW, "trainer.max_epochs=1", "loader.batch_size=8", "--json", f"paths.root={project}"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert [arm["way"] for arm in first["arms"]] == list(WAYS)
    assert first["arms"][0]["lesion_in_train"] == 0 < first["arms"][2]["image_in_train"]
    store = plan.first_cell.project.store
    runs = [find_run(store, arm["run_id"]) for arm in first["arms"]]
    assert [run.tags["leaky"] for run in runs] == ["false", "true", "true"]
    assert {run.tags["mlflow.parentRunId"] for run in runs} == {first["run_id"]}
    steps = [len(store.client.get_metric_history(run.run_id, "val/loss")) for run in runs]
    assert steps == [1, 1, 1]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == first
    assert "is continued" in shown.err
    assert find_tagged(store, {"kind": "sweep", "sweep_id": first["sweep_id"]}).run_id == first["run_id"]
