"""A file of pseudo-labels is matched with the rows of a data set that have no label, and with no other."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from lesion_exp.dataset.csv import read_csv
from lesion_exp.dataset.pseudo_labels import PseudoLabels, PseudoOptions, pseudo_rows, read_pseudo_labels
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.taxonomy import PSEUDO_RUN
from lesion_exp.text_table import write_csv

HEAD = "image_id,image_path,label,confidence,run_id,weights_hash,calibration,threshold\n"


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """A table with two labelled images and three without a label, and a folder with two images more."""
    root = tmp_path / "clinic"
    for name in ("a", "b", "c", "d", "e"):
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / "images" / f"{name}.png")
    for name in ("c", "x"):
        (tmp_path / "new").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "new" / f"{name}.png")
    (root / "t.csv").write_text(
        "image_id,label,patient_id,official_split\na,mel,1,train\nb,nv,2,test\nc,,3,train\nd,NA,4,train\ne,,5,test\n"
    )
    return root


def labels_in(path: Path, *rows: str) -> PseudoLabels:
    path.write_text(HEAD + "".join(f"{row}\n" for row in rows))
    return PseudoLabels(PseudoOptions(str(path), 0.5))


def table_of(clinic: Path) -> pd.DataFrame:
    return read_csv(str(clinic), "t.csv")


def joined(pseudo: PseudoLabels, clinic: Path, chosen: str | None = None) -> pd.DataFrame:
    return pseudo.append(pseudo.separate(table_of(clinic)), chosen)


def test_a_name_that_begins_with_an_apostrophe_is_read_as_it_was_written(tmp_path: Path) -> None:
    names = ["=1", "'=1", "''=1"]
    write_csv(pd.DataFrame({"image_id": names, "label": "mel"}), tmp_path / "p.csv")
    assert read_pseudo_labels(tmp_path / "p.csv")["image_id"].tolist() == names


def test_rows_without_a_label_get_one_and_other_images_become_rows(clinic: Path) -> None:
    pseudo = labels_in(
        clinic / "p.csv",
        "c,images/c.png,mel,0.95,run1,w,temperature,0.9",
        "new/x,../new/x.png,nv,0.99,run1,w,temperature,0.9",
    )
    table = joined(pseudo, clinic)
    rows = table[pseudo_rows(table)].set_index("image_id")
    assert rows["label"].to_dict() == {"c": "mel", "pseudo/new/x": "nv"}
    assert rows["patient_id"].to_dict() == {"c": "3", "pseudo/new/x": None}
    assert rows["source"].to_dict() == {"c": "csv", "pseudo/new/x": "pseudo"}
    assert set(rows[PSEUDO_RUN]) == {"run1"}
    assert table.set_index("image_id")["sample_weight"].to_dict() == {"a": 1, "b": 1, "c": 0.5, "pseudo/new/x": 0.5}
    facts = pseudo.facts()
    assert facts["thresholds"] == {"mel": 0.9, "nv": 0.9}
    assert (facts["in_file"], facts["run_id"], facts["calibration"]) == (2, ["run1"], ["temperature"])
    assert facts["left_out"] == {"neither the data set nor the file has a label for them": 2}


def test_labels_of_people_win_and_evaluated_parts_are_left_alone(clinic: Path) -> None:
    pseudo = labels_in(
        clinic / "p.csv",
        *("a,images/a.png,nv,0.99,run1,w,none,0.9", "d,images/d.png,mel,0.99,run1,w,none,0.9"),
        "e,images/e.png,mel,0.99,run1,w,none,0.9",
    )
    table = joined(pseudo, clinic).set_index("image_id")
    assert table["label"].to_dict() == {"a": "mel", "b": "nv", "d": "mel"}
    assert pseudo.left_out == {
        "neither the data set nor the file has a label for them": 1,
        "they have a label already": 1,
        "the data set's own validation or test part has them": 1,
    }


def test_the_same_name_elsewhere_is_another_image_and_a_moved_one_is_found_by_its_id(clinic: Path) -> None:
    pseudo = labels_in(clinic / "p.csv", "c,../new/c.png,mel,0.95,run1,w,none,0.9")
    assert "pseudo/c" in set(joined(pseudo, clinic)["image_id"])
    pseudo = labels_in(clinic / "p.csv", "c,gone/c.png,mel,0.95,run1,w,none,0.9")
    table = joined(pseudo, clinic)
    assert set(table["image_id"]) == {"a", "b", "c"}


def test_images_of_one_name_stay_apart_by_their_ending_and_else_by_a_number(clinic: Path) -> None:
    for name in ("new/x.jpg", "other/x.png"):
        (clinic.parent / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(clinic.parent / name)
    rows = [f"{name},../{path},nv,0.99,run1,w,none,0.9" for name, path in (
        ("x", "new/x.png"), ("x", "new/x.jpg"), ("x", "other/x.png"), ("c", "new/c.png"),
    )]  # fmt: skip
    table = joined(labels_in(clinic / "p.csv", *rows), clinic)
    assert table["image_id"].tolist()[-4:] == ["pseudo/x.png", "pseudo/x.jpg", "pseudo/x.png#2", "pseudo/c"]
    assert table["row_id"].is_unique
    (clinic / "own.csv").write_text("image_path,label\n../new/x.png,nv\n../new/x.jpg,mel\n")
    again = joined(PseudoLabels(PseudoOptions(str(clinic / "own.csv"))), clinic)
    stem = f"pseudo/{clinic.parent}/new/x"
    assert again["image_id"].tolist()[-2:] == [f"{stem}.png", f"{stem}.jpg"]


def test_new_images_bring_their_masks_and_clinical_photographs(clinic: Path) -> None:
    (clinic / "t.csv").write_text("image_id,label,clinical_path\na,mel,images/b.png\nb,nv,images/a.png\n")
    (clinic / "p.csv").write_text(
        "image_path,label,mask_path,clinical_path\n../new/x.png,nv,../new/m.png,images/e.png\n../new/c.png,mel,,\n"
    )
    pseudo = PseudoLabels(PseudoOptions(str(clinic / "p.csv")))
    table = pseudo.append(pseudo.separate(read_csv(str(clinic), "t.csv")), None)
    new = table[pseudo_rows(table)]
    assert new["mask_path"].tolist() == [str(clinic.parent / "new" / "m.png"), None]
    assert new["clinical_path"].tolist() == [str(clinic / "images" / "e.png"), None]


def test_diagnoses_that_the_data_set_lacks_are_of_use_if_they_are_malignant_or_benign(clinic: Path) -> None:
    rows = ("c,images/c.png,bcc,0.95,r,w,none,0.9", "d,images/d.png,nv,0.95,r,w,none,0.9")
    pseudo = labels_in(clinic / "p.csv", *rows)
    labelled = pseudo.separate(table_of(clinic))
    with pytest.raises(DataError, match=r"mel, nv, got bcc .* run of these classes, or .* 'threshold=\{nv: 0\.9\}'"):
        pseudo.append(labelled, None)
    table = pseudo.append(labelled, None, "malignant")
    assert table.loc[pseudo_rows(table), "label"].tolist() == ["bcc", "nv"]
    pseudo = labels_in(clinic / "p.csv", "c,images/c.png,wart,0.95,r,w,none,0.9")
    with pytest.raises(DataError, match="mel, nv, or diagnoses that are malignant or benign, got wart"):
        pseudo.append(pseudo.separate(table_of(clinic)), None, "malignant")


def test_the_filter_of_the_data_set_applies_to_its_rows(clinic: Path) -> None:
    rows = ("c,images/c.png,mel,0.95,r,w,none,0.9", "d,images/d.png,mel,0.95,r,w,none,0.9")
    table = joined(labels_in(clinic / "p.csv", *rows), clinic, "image_id != 'c'")
    assert set(table[pseudo_rows(table)]["image_id"]) == {"d"}


def test_a_filter_on_an_own_column_of_the_data_set_leaves_new_images_alone(clinic: Path) -> None:
    rows = (clinic / "t.csv").read_text().splitlines()
    (clinic / "t.csv").write_text("\n".join([f"{rows[0]},camera", *(f"{row},old" for row in rows[1:])]) + "\n")
    pseudo = labels_in(clinic / "p.csv", "x,../new/x.png,nv,0.95,r,w,none,0.9")
    table = joined(pseudo, clinic, "camera == 'old'")
    assert table["image_id"].tolist() == ["a", "b", "pseudo/x"]
    known = labels_in(clinic / "p.csv", "x,../new/x.png,nv,1,r,w,none,0.9", "c,images/c.png,mel,1,r,w,none,0.9")
    assert set(joined(known, clinic, "camera == 'new'")["image_id"]) == {"a", "b", "pseudo/x"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["c,images/c.png,lentigo,0.95,r,w,none,0.9"], "among the classes of the data set, mel, nv, got lentigo"),
        (["q,nowhere/q.png,mel,0.95,r,w,none,0.9"], "neither files nor rows of the data set"),
        (["c,images/c.png,mel,1,r,w,none,0.9", "k,images/c.png,nv,1,r,w,none,0.9"], "twice"),
        (["c,images/c.png,,1,r,w,none,0.9"], "no label"),
        (["a,images/a.png,mel,1,r,w,none,0.9"], "all 1 are left out"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(clinic: Path, rows: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        joined(labels_in(clinic / "p.csv", *rows), clinic)


def test_a_table_of_ones_own_needs_two_columns(clinic: Path) -> None:
    (clinic / "own.csv").write_text("image_path;label\nimages/c.png;mel\n")
    found = read_pseudo_labels(clinic / "own.csv")
    assert found["run_id"].tolist() == ["unknown"]
    assert found["image_path"].tolist() == [str(clinic / "images" / "c.png")]
    (clinic / "own.csv").write_text("file;label\nimages/c.png;mel\n")
    with pytest.raises(DataError, match=r"columns image_path \(or image_id\) and label"):
        read_pseudo_labels(clinic / "own.csv")


def test_parquet_is_read_as_csv_is(clinic: Path) -> None:
    pseudo = labels_in(clinic / "p.csv", "c,images/c.png,mel,0.95,run1,w,temperature,0.9")
    pseudo.given.to_parquet(clinic / "p.parquet", index=False)
    again = PseudoLabels(PseudoOptions(str(clinic / "p.parquet")))
    assert again.given["label"].tolist() == ["mel"]
    assert joined(again, clinic)["image_id"].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pseudo_weight": 0.5}, "dataset.pseudo_labels=FILE beside"),
        ({"pseudo_labels": "p.csv", "pseudo_weight": -1}, "at least 0, got -1"),
        ({"pseudo_labels": 3}, "expected a file"),
    ],
)
def test_values_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PseudoOptions(**options)  # type: ignore[arg-type]


def test_weight_0_is_absence() -> None:
    assert not PseudoOptions("p.csv", 0).are_used
    assert PseudoOptions("p.csv", 0.1).are_used
