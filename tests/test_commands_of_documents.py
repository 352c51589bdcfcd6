"""Every `lesion-exp` command that a document shows is one that `lesion-exp` accepts."""

import re
import shlex

import pytest

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from tests.commands import DOCUMENTS, REPOSITORY, Command, accepted, commands, shown_files
from tests.tiny import TINY
from tests.untrained_run import untrained_run

SHOWN = {document: list(commands(document)) for document in DOCUMENTS}
LEAST_COMMANDS = 85


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The folder of a reader who has a run and has written the files that the pages show."""
    root = tmp_path_factory.mktemp("reader")
    run, _ = untrained_run(root)
    run.store.client.set_tag(run.run_id, "weights_hash", "0" * 16)
    freeze(compose(TINY, root=root)).write(root / "job.yaml")
    plan = root / "planned" / "experiment" / "plan.yaml"
    plan.parent.mkdir(parents=True)
    plan.write_text("# @package _global_\nseed: 1\n")
    (root / "shared.zip").touch()
    (root / "DIR").mkdir()
    for name in ("entry.csv", "theirs.csv", "ISIC2018_Task3_Test_GroundTruth.csv"):
        (root / name).write_text("image_id,prediction\n")
    for document in DOCUMENTS:
        for name, text in shown_files(document):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    "document", [document for document, found in SHOWN.items() if found], ids=lambda path: path.name
)
def test_lesion_exp_accepts_every_command_of_a_document(document, project, monkeypatch):
    monkeypatch.chdir(project)
    for command in SHOWN[document]:
        accepted(command)


def test_every_value_that_the_page_on_sweeps_shows_makes_cells(project, monkeypatch):
    monkeypatch.chdir(project)
    page = (REPOSITORY / "docs" / "sweeps.md").read_text("utf-8")
    values = re.findall(r"^\| `([^`]+)` \|", page.partition("\n## Values\n")[2].partition("\n## ")[0], re.MULTILINE)
    assert len(values) >= 4
    for value in values:
        words = ("train", "-m", "dataset=ham10000", "dataset.root=DIR", *shlex.split(value))
        assert accepted(Command("docs/sweeps.md", words)), value


def test_the_commands_are_found():
    assert sum(map(len, SHOWN.values())) >= LEAST_COMMANDS


@pytest.mark.parametrize(
    "words",
    [
        ("tarin", "seed=1"),
        ("train", "optimizer.rl=0.1"),
        ("train", "-m", "loss=focal,focle"),
        ("train", "--jsn"),
        ("evaluate", "run=latest", "ensemble=meen"),
        ("predict", "run=latest", "input=FOLDER", "output=a.csv", "top=many"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_in_a_document_would_be_found(words, project, monkeypatch):
    monkeypatch.chdir(project)
    with pytest.raises(AssertionError, match="expected"):
        accepted(Command("README.md", words))
