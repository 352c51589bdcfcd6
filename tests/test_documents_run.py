"""The commands of the documents that end within seconds on generated images are run, and do what they say."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from lesion_exp.cli import main
from lesion_exp.config.registered import TRUST_VARIABLE
from lesion_exp.testing import check_option
from lesion_exp.tracking.store import open_store
from tests.commands import DOCUMENTS, REPOSITORY, blocks, commands, shown_files
from tests.own_process import restored
from tests.pictures import without_pictures
from tests.tiny import TINY

pytestmark = pytest.mark.slow
OF_RUNS = (
    "evaluate", "compare", "report", "figures", "predict", "register", "bundle", "export", "import", "reproduce",
    "sync",
)  # fmt: skip
"""Verbs that work on runs which have finished."""
LEFT_OUT = {
    r"dataset=|dataset\.root": "need a data set that has to be downloaded",
    r"folds:|ensemble=stacked|STACK": "need a cross-validation",
    r"onnx_int8|format=isic": "take longer, or need more classes; tests/verbs/export and tests/verbs/predict run them",
    r"truth=|like=|theirs|cases\.|archive|target_precision|threshold=": "need a file of the reader's",
    r"^reproduce job": "trains for longer",
    r"STUDENT|TEACHER": "need a student; tests/training/test_teacher.py makes one",
    r"best:isic": "needs the evaluation of another data set",
}
"""Commands that are only read (`tests/test_commands_of_documents.py`), and why."""


def is_run(command):
    words = command.words
    if command.is_inline or words[0] not in OF_RUNS:
        return False
    return not any(re.search(pattern, " ".join(words)) for pattern in LEFT_OUT)


RUN = [command for document in DOCUMENTS for command in commands(document) if is_run(command)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project with two trained runs, the second of which has the alias `champion`, and folders of photographs."""
    root = tmp_path_factory.mktemp("trained")
    before = Path.cwd()
    os.chdir(root)
    with restored(), without_pictures():
        for seed in (1, 2):
            assert main(["train", *TINY, f"seed={seed}"]) == 0
        assert main(["register", "run=latest", "alias=champion"]) == 0
    images = sorted((root / "data_cache" / "synthetic").rglob("*.jpg"))[:12]
    for folder in ("FOLDER", "new_images"):  # as the documents name them
        (root / folder).mkdir()
        for image in images:
            shutil.copy(image, root / folder)
    yield root
    os.chdir(before)


@pytest.fixture
def ids(trained):
    """The ids of the two runs, the latest one first."""
    store = open_store(None, trained)
    runs = store.client.search_runs([one.experiment_id for one in store.client.search_experiments()], "tags.loss != ''")
    return [run.info.run_id for run in runs if run.data.tags["mlflow.runName"] == "demo"]


def as_here(words, ids):
    """The words with the ids of runs that are here."""
    first, second = ids[0], ids[-1]
    text = "\0".join(words)
    text = re.sub(r"\b(3f2a91c0|3f2a|A)\b(?=[\0,\]]|$)", first, text)
    text = re.sub(r"\b(91c07d12|91c0|B)\b(?=[\0,\]]|$)", second, text)
    text = re.sub(r"[\0,](77de|C)\b", "", text.replace("against=77de", f"against={second}"))
    text = re.sub(r"=(RUN|ID)\b", f"={first}", text)
    return [word for word in text.split("\0") if not (words[0] == "compare" and word == "latest")]


@pytest.mark.parametrize("command", RUN, ids=str)
def test_a_command_of_a_document_runs(command, trained, ids, monkeypatch, tmp_path):
    monkeypatch.chdir(trained)
    words = as_here(command.words, ids)
    if words[:2] == ["bundle", "import"] and not (trained / words[2]).exists():
        assert main(["bundle", "export", "run=latest", f"output={words[2]}"]) == 0
    for output in (trained / word.removeprefix("output=") for word in words if word.startswith("output=")):
        shutil.rmtree(output) if output.is_dir() else output.unlink(missing_ok=True)  # of another page
    with restored(), without_pictures():
        assert main(words) == 0
    for word in words:
        name = word.removeprefix("output=")
        assert name == word or (trained / name).exists()


def test_most_commands_about_runs_are_run():
    assert len(RUN) >= 15


def test_the_code_of_the_page_on_own_code_is_trained_with(tmp_path, monkeypatch):
    """The files of the page, exactly as they stand there."""
    for name, text in shown_files(REPOSITORY / "docs" / "own_code.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUST_VARIABLE, "my_package,my_losses")
    try:
        check_option("backbone", "mine", config_dirs=["my_conf"])
        check_option("loss", "mine", config_dirs=["my_conf"])
        check_option("loss", "later", config_dirs=["my_conf"])
    finally:
        sys.modules.pop("my_package", None)
        sys.modules.pop("my_losses", None)


def test_the_code_of_the_page_from_python_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """The block of the page, with generated lesions in place of HAM10000 and trainings of an epoch."""
    (code,) = blocks(REPOSITORY / "docs" / "python.md", "python")
    for shown, meant in (
        ('"dataset=ham10000", "dataset.root=DIR"', "*TINY"),
        ('"backbone=resnet18", "trainer.max_epochs=3"', '"trainer.max_epochs=1"'),
        ('"seed=0,1,2"', '"seed=0,1", "trainer.max_epochs=1", "launcher.workers=1"'),
    ):
        assert shown in code
        code = code.replace(shown, meant)
    monkeypatch.chdir(tmp_path)
    names = {"TINY": TINY}
    with without_pictures():
        before, _, after = code.partition("predict(")
        exec(before, names)
        (tmp_path / "photographs").mkdir()
        for path in names["made"].data().table["image_path"].head(3):
            shutil.copy(path, tmp_path / "photographs")
        exec(f"found = predict({after}", names)
    assert names["result"].run_id == names["made"].run_id
    assert len(names["swept"].table) == 4
    assert len(names["found"]) == 3
