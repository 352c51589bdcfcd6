"""Every verb on a run of pretraining does what it says, or names the run, what it is, and a command that works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lesion_exp.cli import main
from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.tracking.find import find_run
from lesion_exp.tracking.store import open_store
from lesion_exp.training.build import build
from lesion_exp.training.data import load_data, split_data
from lesion_exp.training.run import train
from tests.pictures import without_pictures
from tests.refusal import assert_refused
from tests.training.test_pretraining import job_of

pytest.importorskip("lightly")

REFUSED = {
    "report": ("run=latest", "output=page.html"),
    "serve": ("run=latest",),
    "explain": ("run=latest",),
    "predict": ("run=latest", "input=.", "output=predictions.csv"),
    "evaluate": ("run=latest",),
    "compare": ("latest", "latest"),
    "export": ("run=latest", "format=onnx", "output=exported"),
    "register": ("run=latest",),
    "label-errors": ("run=latest", "output=suspected.csv"),
    "shortcuts": ("run=latest",),
}
OTHERS = {
    "evaluate": ("run=latest", "dataset=synthetic", "dataset.drawing_seed=5"),
    "predict": ("run=latest", "input=.", "output=predictions.csv", "pseudo_labels=pseudo.csv"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A project whose only run is a pretraining, with a network of another width than its option's."""
    root = tmp_path_factory.mktemp("pretrained")
    with without_pictures():
        train(job_of(root, "trainer.max_epochs=1"))
    return root


@pytest.fixture
def run(root, monkeypatch, own_process):
    monkeypatch.chdir(root)
    return find_run(open_store(None, root), "latest")


@pytest.mark.parametrize(("verb", "given"), [*REFUSED.items(), *OTHERS.items()])
def test_a_verb_that_needs_a_classifier_says_what_the_run_is_and_what_to_do(run, verb, given, capsys):
    before = sorted(path.name for path in Path().iterdir())
    said = f"got {run.run_id} ({run.name}), a pretraining by simclr without labels; train a classifier"
    assert_refused(capsys, [verb, *given], said)
    assert sorted(path.name for path in Path().iterdir()) == before, "nothing is written"


def test_the_command_that_the_message_names_starts_from_the_very_network(run, root, capsys):
    assert main(["label-errors", *REFUSED["label-errors"]]) == 2
    (command,) = re.findall(r"lesion-exp train (.*)", capsys.readouterr().err)
    job = freeze(compose(shlex.split(command), root=root))
    assert job.config["image_size"] == 32
    assert job.config["backbone"]["width"] == 8
    assert job.config["backbone"]["weights_run"] == run.run_id
    build(job.config, split_data(job.config, load_data(job.config)))


@pytest.mark.slow
def test_a_pretraining_is_reproduced_and_travels_in_a_bundle(run, tmp_path, monkeypatch, capsys):
    assert main(["reproduce", f"run={run.run_id}"]) == 0
    assert "identical: weights" in capsys.readouterr().out
    assert main(["bundle", "export", f"run={run.run_id}", f"output={tmp_path / 'run.zip'}"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["bundle", "import", str(tmp_path / "run.zip")]) == 0
    imported = find_run(open_store(None, tmp_path / "elsewhere"), "latest")
    assert (imported.tags["kind"], imported.tags["pretraining"]) == ("pretrain", "simclr")
    assert imported.tags["weights_hash"] == run.tags["weights_hash"]
    config = compose(["backbone=small_cnn", "backbone.width=8", "backbone.weights=run:latest"], root=Path()).config
    assert config["backbone"]["weights_run"] == imported.run_id
