import json
import shutil

import pytest

from lesion_exp.cli import main
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.config.project import Project
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.store import Store
from lesion_exp.tracking.stored_run import download_artifact
from lesion_exp.training.run import train
from tests.tiny import TINY


def test_the_page_is_kept_with_the_run_and_written_where_it_is_wanted(full_run, root, own_process, capsys):
    run = full_run()
    assert main(["report", f"run={run.run_id[:8]}", "output=page.html"]) == 0
    assert capsys.readouterr().out == f"{root / 'page.html'}\n"
    kept = download_artifact(run, "report.html")
    assert kept.read_bytes() == (root / "page.html").read_bytes()
    assert main(["report", f"run={run.run_id}", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"run_id": run.run_id, "path": str(kept), "artifact": "report.html", "bytes": kept.stat().st_size}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=latest", "sweep=latest"], "got run=latest and sweep=latest"),
        ([], "got neither"),
        (["run=latest", "output=page.pdf"], "expected output to be a file that ends in .html or .htm"),
        (["run=latest", "output=nowhere/page.html"], "expected a file in an existing folder"),
        (["run=latest", "backbone=resnet18"], "expected a key that this verb reads"),
        (["sweep=latest"], "but there is none; sweeps lie in the folder of their project"),
        (["run=latest"], "it has none yet"),
    ],
)
def test_mistakes_are_told(words, message, store, own_process, capsys):
    assert main(["report", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_page_comes_from_a_server_as_well(full_run, root, own_process, tmp_path, monkeypatch, capsys):
    """A store that keeps its artifacts elsewhere: each is fetched, and the page is uploaded."""
    run = full_run()
    folder = run.store.artifact_dir(run.artifact_uri)

    def fetch(client, run_id, path, into):
        target = tmp_path / "fetched" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return str(shutil.copyfile(folder / path, target))

    monkeypatch.setattr(Store, "artifact_dir", lambda self, uri: None)
    monkeypatch.setattr("mlflow.MlflowClient.download_artifacts", fetch)
    assert main(["report", f"run={run.run_id}"]) == 0
    assert "balanced accuracy was" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_trained_run_stores_all_that_its_page_asks_for(root, own_process, outline, capsys):
    config = compose([*TINY, "split.seed=1"], root=root)
    run_id = train(freeze(config)).run_id
    run = find_run(Project.from_config(config.config).store, run_id)
    assert main(["report", f"run={run_id}"]) == 0
    text = download_artifact(run, "report.html").read_text(encoding="utf-8")
    page = outline(text)
    assert "Not stored by this run:" not in page.text.partition("Reporting checklists The items")[0]
    assert {alt for _, alt in page.images} >= {"The wrong predictions with the highest probabilities"}
    assert "The score of ISIC 2024 is at most 0.2." in page.text
    assert str(root) not in text
