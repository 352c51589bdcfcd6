"""Folders and files of a config that are not there are told before anything large is imported."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lesion_exp.backbone.weights import read_state
from lesion_exp.command.audit import AuditOptions
from lesion_exp.config.compose import compose
from lesion_exp.config.places import check_given_weights, check_new_places, check_places
from lesion_exp.errors import DataError, UserError
from lesion_exp.next_command import key_and_value
from lesion_exp.option import Names

LARGE = ("torch", "mlflow", "pytorch_lightning", "albumentations", "sklearn", "cv2")
MISSING = {
    "dataset=ham10000 dataset.root=nowhere": "the files of ham10000 at dataset.root, but nothing is at",
    "dataset=csv dataset.table=t.csv dataset.root=file": "the files of csv at dataset.root, but a file is at",
    "dataset=combined dataset.sets={ph2:nowhere}": "the files of ph2 at dataset.sets.ph2, but nothing is at",
    "dataset=combined dataset.sets={mine:{root:nowhere}}": "the files of mine at dataset.sets.mine, but nothing is at",
    "split=file split.path=nowhere.csv": "the csv of the split at split.path, but there is no file at",
    "dataset.pseudo_labels=nowhere.csv": "a file of pseudo-labels at dataset.pseudo_labels, but there is no file at",
}


@pytest.mark.parametrize(("words", "message"), MISSING.items())
def test_what_is_not_there_is_refused(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    config = compose(words.split(), root=tmp_path).config
    with pytest.raises(DataError, match=message):
        check_places(config)
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "file").unlink()
    (tmp_path / "file").mkdir()
    (tmp_path / "nowhere.csv").touch()
    check_places(config)


def test_a_folder_in_place_of_the_csv_of_a_split_is_told_with_the_keys_that_take_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree" / "Training").mkdir(parents=True)
    config = compose(["split=file", "split.path=tree"], root=tmp_path).config
    with pytest.raises(DataError, match=r"there is a folder at .*tree; .* with train_ids=DIR test_ids=DIR"):
        check_places(config)
    (tmp_path / "tree" / "test").mkdir()
    said = f"train_ids={tmp_path}/tree/Training test_ids={tmp_path}/tree/test"
    with pytest.raises(DataError, match=re.escape(said)):
        check_places(config)


@pytest.mark.parametrize(
    ("name", "folder", "said"),
    [
        ("my split", "my split", r"split, or audit .* with (.*) instead of split=file"),
        ("a,b", "DIR", r"rename the folder, since its path has a comma, and audit .* with (.*) instead of split=file"),
    ],
)
def test_the_folders_of_the_parts_are_told_as_they_are_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for part in ("train", "test"):
        (tmp_path / name / part).mkdir(parents=True)
    config = compose(["split=file", f"split.path='{name}'"], root=tmp_path).config
    with pytest.raises(DataError) as caught:
        check_places(config)
    found = re.search(said, str(caught.value))
    assert found is not None, caught.value
    words = dict(map(key_and_value, shlex.split(found[1])))
    read = AuditOptions(**{key: Names().read(value) for key, value in words.items()}).lists()
    expected = {part: [Path(folder) if folder == "DIR" else tmp_path / folder / part] for part in ("train", "test")}
    assert read == expected


@pytest.mark.parametrize("words", ["dataset=synthetic", "dataset=synthetic dataset.root=new", "backbone.weights=none"])
def test_what_need_not_be_there_passes(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_places(compose(words.split(), root=tmp_path).config)


def test_a_file_of_weights_is_looked_for_and_a_name_of_weights_is_not(tmp_path: Path) -> None:
    config = compose([], root=tmp_path).config
    for named in ("imagenet", "hub:owner/name@main", "imagenet:V1"):
        check_places({**config, "backbone": {**config["backbone"], "weights": named}})
    with pytest.raises(DataError, match=r"a file of weights at backbone\.weights, but there is no file at"):
        check_places({**config, "backbone": {**config["backbone"], "weights": str(tmp_path / "none.pth")}})


def test_the_commands_import_nothing_large_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    commands = [f"train {words}" for words in MISSING]
    commands += ["train -m seed=1,2 dataset=ph2 dataset.root=nowhere", "prepare dataset=ph2 dataset.root=nowhere"]
    commands += ["plan dataset=ph2 dataset.root=nowhere hours=1", "leakage dataset=ph2 dataset.root=nowhere"]
    commands += ["train backbone.weights=nowhere.pt", "train backbone.weights=run:nowhere"]
    commands += ["import predictions=nowhere.csv truth=t.csv", "bundle import nowhere.zip"]
    script = (
        "import sys\nfrom lesion_exp.cli import main\n"
        f"for command in {commands}:\n"
        "    assert main(command.split()) == 2, command\n"
        f"    assert not [name for name in {LARGE} if name in sys.modules], command\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_given_weights_that_are_not_there_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"a file of weights at backbone.weights, but there is no file at {tmp_path}"):
        check_given_weights(["seed=1", "+backbone.weights=nowhere.pt"])
    (tmp_path / "nowhere.pt").touch()
    check_given_weights(["backbone.weights=nowhere.pt", "backbone.weights=none", "backbone.weights=imagenet:V2"])
    check_given_weights([r"backbone.weights=my\ file.pt"])  # Hydra reads a blank
    check_given_weights(["backbone.weights=run:latest", "backbone.weights=a.pt,b.pt", "backbone.weights=${oc.env:W}"])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("imagnet", "imagenet"),
        ("Image_Net", "imagenet"),
        ("imagnet:IMAGENET1K_V2", "imagenet:"),
        ("non", "none"),
        ("rum:latest", "run:"),
    ],
)
def test_a_misspelt_name_of_weights_is_answered_with_the_name(tmp_path: Path, typed: str, meant: str) -> None:
    config = compose([], root=tmp_path).config
    for check in (
        lambda: check_given_weights([f"backbone.weights={typed}"]),
        lambda: check_places({**config, "backbone": {**config["backbone"], "weights": str(tmp_path / typed)}}),
        lambda: read_state(typed),
    ):
        with pytest.raises(UserError, match=f"; did you mean '{meant}'"):
            check()


def test_a_file_that_is_not_there_is_no_misspelt_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="; correct the path"):
        check_given_weights([f"backbone.weights={tmp_path}/imagenet.pth"])


def test_a_folder_that_the_user_gives_for_moved_data_exists_even_if_the_images_are_drawn(tmp_path):
    config = compose(["dataset=synthetic"], config_dirs=(), root=tmp_path).config
    check_places(config)
    check_new_places(config, {"dataset.root": tmp_path})
    with pytest.raises(DataError, match=r"at dataset\.root, but nothing is at .*mistyped; set dataset\.root=DIR"):
        check_new_places(config, {"dataset.root": tmp_path / "mistyped"})
