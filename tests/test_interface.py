import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import lesion_exp
from lesion_exp.cli import main
from lesion_exp.data.store import ImageStore
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.tracking import artifacts
from tests.tiny import TINY


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project with a run; its folder and the run's id."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        made = lesion_exp.run(*TINY, "trainer.max_epochs=1", "evaluation.calibration=temperature", "tags.study=here")
        yield root, made.run_id


@pytest.fixture(autouse=True)
def in_the_project(trained, monkeypatch):
    monkeypatch.chdir(trained[0])


def test_a_run_is_opened_by_any_of_its_names_and_says_what_it_came_to(trained):
    run_id = trained[1]
    for name in ("latest", run_id, run_id[:8], "best:test/balanced_accuracy"):
        opened = lesion_exp.open_run(name)
        assert opened.run_id == run_id
    assert opened.metrics["test/balanced_accuracy"] == pytest.approx(opened.run.metrics["test/balanced_accuracy"])
    shown = repr(opened).splitlines()
    assert shown[0] == f"run {run_id} ({opened.run.name}), FINISHED"
    assert any(line.startswith("  test/balanced_accuracy 0.") and " to " in line for line in shown)
    page = opened._repr_html_()
    assert "balanced accuracy" in page
    assert "data:image/png" in page
    assert opened.job is not None
    assert opened.job.job_hash == opened.run.tags["job_hash"]
    assert opened.artifact(artifacts.AUDIT).is_file()
    assert opened.card["run_id"] == run_id
    with pytest.raises(DataError, match=r"did you mean 'split/audit\.json'"):
        opened.artifact("split/audits.json")


def test_its_network_says_what_its_predictions_say(trained):
    opened = lesion_exp.open_run(trained[1])
    kept, split = opened.predictions("test"), opened.data()
    assert isinstance(split.loaded.store, ImageStore)
    rows = split.table[split.table["split"] == "test"]
    anew = opened.network().predict(rows, split.loaded.store)
    assert anew["row_id"].tolist() == kept["row_id"].tolist()
    assert anew["prediction"].tolist() == kept["prediction"].tolist()
    assert opened.calibrator("none") is None
    assert opened.calibrator("temperature").classes == opened.network().classes
    with pytest.raises(DataError, match="got tempreature; it has none, temperature"):
        opened.calibrator("tempreature")


def test_runs_are_a_table(trained):
    table = lesion_exp.runs()
    assert table.loc[0, "run_id"] == trained[1]
    assert table.loc[0, "status"] == "FINISHED"
    assert table.loc[0, "tags.study"] == "here"
    assert 0 <= table.loc[0, "metrics.test/balanced_accuracy"] <= 1
    assert len(lesion_exp.runs("tags.study = 'elsewhere'")) == 0


def test_what_there_is_not_is_said(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="expected a run id"):
        lesion_exp.open_run("nothing of the kind")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="it has none yet"):
        lesion_exp.open_run()


def test_evaluate_gives_what_the_command_prints(trained, capsys):
    evaluated = lesion_exp.evaluate(trained[1], tta="flips8")
    assert evaluated.evaluation.name == "test-flips8"
    low, high = evaluated.metrics["balanced_accuracy"].interval
    assert low <= evaluated.metrics["balanced_accuracy"].value <= high
    assert {"label", "prediction"} <= set(evaluated.table)
    assert repr(evaluated).startswith(evaluated.evaluation.run_name)
    assert "data:image/png" in evaluated._repr_html_()
    assert main(["evaluate", f"run={trained[1]}", "tta=flips8", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["metrics"]
    assert printed["accuracy"]["value"] == pytest.approx(evaluated.metrics["accuracy"].value)
    with pytest.raises(ConfigError, match="calibration"):
        lesion_exp.evaluate(trained[1], part="val", calibration="temperature")


def test_predict_gives_the_table_that_it_writes(trained, tmp_path):
    opened = lesion_exp.open_run(trained[1])
    folder = Path(opened.data().table["image_path"].iloc[0]).parent
    images = sorted(folder.glob("*.jpg"))[:3]
    for image in images:
        shutil.copy(image, tmp_path)
    found = lesion_exp.predict(opened, input=tmp_path, output=tmp_path / "found.csv", top=2)
    assert found.table["error"].isna().all()
    assert [Path(name).name for name in found.table["image"]] == [image.name for image in images]
    assert {"top1", "top2"} <= set(found.table)
    assert repr(found).startswith("3 images predicted")
    assert "<table" in found._repr_html_()
    with pytest.raises(ConfigError, match="expected a new file as output"):
        lesion_exp.predict(opened, input=tmp_path, output=tmp_path / "found.csv")
    likeliest = str(found.table["prediction"].iloc[0])
    sure = tmp_path / "sure.csv"
    lesion_exp.predict(
        opened, input=tmp_path, output=tmp_path / "again.csv", pseudo_labels=sure, threshold={likeliest: 0.01}
    )
    labels = pd.read_csv(sure)["label"]
    assert set(labels) == {likeliest}
    assert len(labels) == (found.table["prediction"] == likeliest).sum()


def test_prepare_gives_the_table_and_its_audit():
    data = lesion_exp.prepare(*TINY)
    assert set(data.table["split"]) == {"train", "val", "test"}
    assert data.audit.passed
    assert len(data.store.fingerprints(data.table["image_id"])) == len(data.table) == data.summary["images"]
    assert "images of each class" in repr(data)
    assert "not understood" in repr(data)
    columns = data.summary["understood"]["columns"]
    assert columns["lesion_id"]["values"] == data.table["lesion_id"].nunique()
    assert {each["class"] for each in data.summary["understood"]["labels"]} == set(data.table["label"])
    assert "<table" in data._repr_html_()


def test_sweep_and_compare(trained):
    swept = lesion_exp.sweep(*TINY, "trainer.max_epochs=1", "test=true", "seed=1,2", "launcher.workers=1")
    assert swept.table["status"].tolist() == ["finished", "finished"]
    assert swept.run_id in set(lesion_exp.runs()["run_id"])
    assert "2 finished" in repr(swept)
    assert "<table" in swept._repr_html_()
    compared = lesion_exp.compare(*swept.table["run_id"], "evaluation.bootstrap_draws=130", part="test")
    assert compared.run_id
    assert len(compared.report.comparison.pairs) == 1
    assert compared.report.draws == 130
    assert "difference" in repr(compared)
    assert "data:image/png" in compared._repr_html_()
    with pytest.raises(ConfigError, match="expected the runs to compare"):
        lesion_exp.compare()
    with pytest.raises(ConfigError, match="bootstrap_drws"):
        lesion_exp.compare("latest", "evaluation.bootstrap_drws=130")
