import json

import pandas as pd
import pytest

from lesion_exp.cli import main
from tests.refusal import assert_refused

DATA = (
    "dataset=synthetic",
    "dataset.num_lesions=60",
    "dataset.image_height=48",
    "dataset.image_width=64",
    "evaluation.bootstrap_draws=100",
)


@pytest.fixture
def audited(store, own_process, capsys, monkeypatch):
    """Runs the command in a project of its own and returns what it prints."""
    monkeypatch.chdir(store.root)

    def run(*words):
        assert main(["audit", *DATA, *words]) == 0
        return capsys.readouterr().out

    return run


def deal(path, column):
    """Writes a split of the generated images that keeps the values of `column` together, and returns their table."""
    table = pd.read_csv(next(path.glob("data_cache/**/*etadata*.csv")))
    codes = pd.factorize(table[column])[0]
    parts = table[["image_id"]].assign(split=pd.Series(codes % 4).map({0: "test"}).fillna("train"))
    parts.to_csv(path / "parts.csv", index=False)
    return table, parts


def test_a_split_by_image_is_told_with_its_scores_and_a_page(audited, store):
    whole = json.loads(audited("split=grouped", "--json"))
    assert whole["passed"]
    assert [(each["part"], each["other"]) for each in whole["overlaps"]] == [
        ("test", "train"), ("test", "val"), ("val", "train"),
    ]  # fmt: skip
    table, parts = deal(store.root, "image_id")
    test = set(parts.loc[parts["split"] == "test", "image_id"])
    touched = {}
    for kind in ("lesion", "patient"):
        ids = table.set_index("image_id")[f"{kind}_id"]
        touched[kind] = int(ids[ids.index.isin(test)].isin(ids[~ids.index.isin(test)]).sum())
    assert 0 < touched["lesion"] < touched["patient"] < len(test)
    table.assign(prediction="nv")[["image_id", "prediction"]].to_csv(store.root / "nv.csv", index=False)
    words = ("split=file", "split.path=parts.csv", "predictions=nv.csv")
    found = json.loads(audited(*words, "output=page.html", "--json"))
    assert not found["passed"]
    assert found["overlaps"][0]["touched"]["lesions"]["all"] == touched["lesion"]
    untouched = len(test) - touched["patient"]
    assert found["scores"]["images"] == {"all": len(test), "untouched": untouched, "touched": touched["patient"]}
    assert f"{touched['patient']} by the patient, {touched['lesion']} by the lesion" in found["paragraph"].replace(
        " and ", ", "
    )
    page = (store.root / "page.html").read_text()
    assert found["paragraph"] in page
    assert "Scores of nv.csv" in page
    shown = " ".join(audited(*words).split())
    assert found["paragraph"] in shown
    assert "the split has no validation part" in shown


def test_lists_of_images_are_audited_and_a_split_by_patient_passes(audited, store):
    audited("split=grouped", "--json")
    _, parts = deal(store.root, "patient_id")
    for part, rows in parts.groupby("split"):
        (store.root / f"{part}.txt").write_text("\n".join(rows["image_id"] + ".jpg"))
    found = json.loads(audited("train_ids=train.txt", "test_ids=test.txt", "--json"))
    assert found["passed"]
    assert found["split"] == ["train: train.txt", "test: test.txt"]
    assert "No test image shows a lesion, patient or picture of the training part." in found["paragraph"]


def test_a_folder_with_the_folders_of_the_parts_is_audited(audited, store):
    audited("split=grouped", "--json")
    table, parts = deal(store.root, "patient_id")
    for row, part in zip(table.itertuples(), parts["split"], strict=True):
        path = store.root / "tree" / part.title() / row.dx / f"{row.image_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = json.loads(audited("split=file", "split.path=tree", "--json"))
    assert found["passed"]
    assert found["split"] == ["test: Test", "train: Train"]
    assert found["images_left_out"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["split=file", "split.path=parts.csv", "test_ids=a.csv"], "expected the parts once"),
        (["test_ids=a.csv"], "expected train_ids= and test_ids=, got only test_ids="),
        (["predictions=a.csv", "run=latest"], "expected one of predictions=FILE and run=ID"),
        (["output=nowhere/page.html"], "expected a file in an existing folder"),
    ],
)
def test_mistakes_are_told(words, said, store, own_process, capsys, monkeypatch):
    monkeypatch.chdir(store.root)
    assert_refused(capsys, ["audit", *DATA, *words], said)
