import pytest

import lesion_exp
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
