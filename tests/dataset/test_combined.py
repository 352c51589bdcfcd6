from __future__ import annotations

import logging
import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

from lesion_exp.config.compose import compose
from lesion_exp.config.overrides import parse_overrides
from lesion_exp.dataset.combined import read_combined, set_names
from lesion_exp.dataset.milk10k import CLASSES
from lesion_exp.errors import ConfigError, DataError

HAM_HEADER = "lesion_id,image_id,dx,dx_type,age,sex,localization\n"


def _folder(root: Path, *names: str) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    return str(root)


@pytest.fixture
def ham10000(tmp_path: Path) -> str:
    root = tmp_path / "ham"
    _folder(root, "1.jpg", "2.jpg")
    (root / "HAM10000_metadata.csv").write_text(f"{HAM_HEADER}L,1,akiec,histo,50,male,back\n,2,nv,histo,50,male,back\n")
    return str(root)


@pytest.fixture
def isic2019(tmp_path: Path) -> str:
    root = tmp_path / "2019"
    _folder(root, "1.jpg", "2.jpg")
    (root / "ISIC_2019_Training_GroundTruth.csv").write_text(
        "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\n1,0,0,0,1,0,0,0,0,0\n2,0,0,0,0,0,0,0,1,0\n"
    )
    (root / "ISIC_2019_Training_Metadata.csv").write_text(
        "image,age_approx,anatom_site_general,lesion_id,sex\n1,,,L,\n"
    )
    return str(root)


def test_ids_are_prefixed_and_labels_mapped(ham10000: str, isic2019: str) -> None:
    table = read_combined({"ham10000": ham10000, "isic2019": {"root": isic2019}}, classes=["akiec", "nv"])
    assert table["image_id"].tolist() == ["ham10000/1", "ham10000/2", "isic2019/1", "isic2019/2"]
    assert table["row_id"].tolist() == table["image_id"].tolist()
    assert table["lesion_id"].tolist() == ["isic/L", "isic/2", "isic/L", "isic/2"]  # image 2 is in both
    assert table["shared_image_id"].tolist() == ["isic/1", "isic/2"] * 2
    assert table["patient_id"].tolist() == [None] * 4
    assert table["source"].tolist() == ["ham10000"] * 2 + ["isic2019"] * 2
    assert table["label"].tolist() == ["akiec", "nv", "akiec", "akiec"]
    assert table["source_label"].tolist() == ["akiec", "nv", "ak", "scc"]
    assert table["official_split"].tolist() == ["train"] * 4
    assert table["leaks_dx_type"].isna().tolist() == [False, False, True, True]


def test_classes_that_contain_one_another_need_a_decision(ham10000: str, isic2019: str) -> None:
    with pytest.raises(ConfigError, match=r"(?s)ak is part of akiec.*dataset\.classes=\[akiec,nv\]"):
        read_combined({"ham10000": ham10000, "isic2019": isic2019})


def test_without_classes_the_union_of_sets_that_agree(tmp_path: Path) -> None:
    first = _folder(tmp_path / "a", "nv/1.jpg", "mel/1.jpg")
    second = _folder(tmp_path / "b", "nv/1.jpg", "bcc/1.jpg")
    table = read_combined({"a": {"set": "folder", "root": first}, "b": {"set": "folder", "root": second}})
    assert sorted(set(table["label"])) == ["bcc", "mel", "nv"]
    assert table["image_id"].is_unique
    assert table["source"].unique().tolist() == ["a", "b"]


def test_binary_classes_take_every_diagnosis(ham10000: str, isic2019: str) -> None:
    table = read_combined({"ham10000": ham10000, "isic2019": isic2019}, classes=["benign", "malignant"])
    assert table["label"].tolist() == ["malignant", "benign", "malignant", "malignant"]


def test_unmappable_labels_are_listed_or_left_out(
    ham10000: str, isic2019: str, caplog: pytest.LogCaptureFixture
) -> None:
    sets = {"ham10000": ham10000, "isic2019": isic2019}
    with pytest.raises(DataError, match=r"(?s)'akiec' of ham10000: 1 images.*on_unmappable=skip"):
        read_combined(sets, classes=["ak", "scc", "nv", "mel"])
    with caplog.at_level(logging.WARNING):
        table = read_combined(sets, classes=["ak", "scc", "nv", "mel"], on_unmappable="skip")
    assert table["image_id"].tolist() == ["ham10000/2", "isic2019/1", "isic2019/2"]
    assert "'akiec' of ham10000: 1 images" in caplog.text
    assert "lists mel, but no image" in caplog.text


def test_missing_labels_and_images_pass_through(ham10000: str) -> None:
    path = Path(ham10000) / "HAM10000_metadata.csv"
    path.write_text(path.read_text() + "L3,3,mole,histo,1,male,back\n")
    table = read_combined({"ham10000": ham10000}, on_unmappable="skip")
    assert table["label"].tolist() == ["akiec", "nv", None]
    assert table["image_path"].isna().tolist() == [False, False, True]
    assert table["raw_label"].tolist()[-1] == "mole"


def test_sets_without_official_parts_have_none_there(ham10000: str, tmp_path: Path) -> None:
    other = _folder(tmp_path / "a", "nv/1.jpg")
    table = read_combined({"ham10000": ham10000, "folder": other})
    assert table["official_split"].tolist() == ["train", "train", None]


@pytest.mark.parametrize(
    ("sets", "part"),
    [
        ({"ham1000": "."}, "did you mean 'ham10000'"),
        ({"combined": {"sets": {}}}, "expected the name of a data set"),
        ({"source_files": "."}, "expected the name of a data set"),
        ({"os": "."}, "expected the name of a data set"),
        ({"clinic": {"root": "."}}, r"clinic: \{set: NAME"),
        ({"clinic": {"set": "csv", "root": ".", "tabel": "x"}}, "'tabel'; did you mean 'table'"),
        ({"clinic": {"set": "csv", "root": "."}}, "expected table for csv"),
        ({"ham10000": None}, "expected root for ham10000"),
        ({}, "expected dataset.sets"),
        (["ham10000"], "expected dataset.sets"),
        ({"ham10000": ["a"]}, r"dataset\.sets\.ham10000, got \['a'\]; write dataset\.sets=\{ham10000: DIR\}"),
        ({"ham10000": {"root": 5}}, r"got \{'root': 5\}"),
        ({"ham10000": 5}, r"arguments in braces, for dataset\.sets\.ham10000, got 5"),
    ],
)
def test_wrong_sets(sets: dict[str, object], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        read_combined(sets)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("classes", "part"), [(["akiec", "mell"], "did you mean 'mel'"), (["nv", "nv"], "two different"), (["nv"], "two")]
)
def test_wrong_classes(ham10000: str, classes: list[str], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        read_combined({"ham10000": ham10000}, classes=classes)


def test_a_wrong_policy(ham10000: str) -> None:
    with pytest.raises(ConfigError, match="one of error, skip"):
        read_combined({"ham10000": ham10000}, on_unmappable="ignore")  # type: ignore[arg-type]


def test_every_reader_of_the_package_can_be_combined() -> None:
    assert {"ham10000", "ph2", "isic2018", "isic2019", "isic2020", "isic2024", "csv", "folder"} <= set(set_names())
    assert not {"combined", "table", "loading", "source_files"} & set(set_names())


def test_the_two_real_sets_together(real_ham10000: Path, real_ph2: Path) -> None:
    classes = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
    table = read_combined({"ham10000": str(real_ham10000), "ph2": str(real_ph2)}, classes=classes)
    assert len(table) == 10_215
    assert table["label"].value_counts()[["nv", "mel"]].tolist() == [6705 + 160, 1113 + 40]
    assert table["image_id"].is_unique
    assert isinstance(table, pd.DataFrame)


def _milk10k(root: Path, labels: list[str]) -> str:
    rows = [f"L{n}," + ",".join("1" if name == label else "0" for name in CLASSES) for n, label in enumerate(labels)]
    root.mkdir()
    (root / "MILK10k_Training_GroundTruth.csv").write_text("\n".join([f"lesion_id,{','.join(CLASSES)}", *rows, ""]))
    (root / "MILK10k_Training_Metadata.csv").write_text(
        "lesion_id,image_type,isic_id,age_approx,sex,skin_tone_class,site\n"
        + "".join(f"L{n},dermoscopic,ISIC_{n},50,male,3,back\n" for n in range(len(labels)))
    )
    return str(root)


def test_classes_that_a_set_tells_apart_stay_apart(
    tmp_path: Path, ham10000: str, caplog: pytest.LogCaptureFixture
) -> None:
    milk = _milk10k(tmp_path / "milk", ["AKIEC", "SCCKA", "SCCKA", "NV"])
    with pytest.raises(DataError, match="'sccka' of milk10k: 2 images, in which akiec is another class"):
        read_combined({"milk10k": milk}, classes=["akiec", "bcc", "nv"])
    kept = read_combined({"milk10k": milk, "ham10000": ham10000}, classes=["akiec", "nv"], on_unmappable="skip")
    assert kept["source_label"].tolist() == ["akiec", "nv", "akiec", "nv"]
    binary = read_combined({"milk10k": milk}, classes=["benign", "malignant"])
    assert binary["label"].tolist() == ["malignant"] * 3 + ["benign"]
    assert set(read_combined({"milk10k": milk})["label"]) == {"akiec", "sccka", "nv"}


def test_what_a_label_becomes_is_said_with_counts(
    ham10000: str, isic2019: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        read_combined({"ham10000": ham10000, "isic2019": isic2019}, classes=["akiec", "nv"])
    assert "1 images of isic2019 with the label 'ak' become akiec" in caplog.text
    assert (
        "1 images of isic2019 with the label 'scc' become akiec, though only some of these lesions belong to that class"
        in caplog.text
    )


def test_names_of_classes_are_understood(tmp_path: Path, ham10000: str) -> None:
    folder = _folder(tmp_path / "a", "Nevus/1.jpg", "Actinic Keratoses/2.jpg")
    sets = {"ham10000": ham10000, "folder": folder}
    assert read_combined(sets, classes=["akiec", "nv"])["label"].tolist() == ["akiec", "nv", "akiec", "nv"]
    with pytest.raises(ConfigError, match="actinic keratoses is part of akiec"):
        read_combined(sets)
    with pytest.raises(ConfigError, match=r"names \(text\) in dataset\.classes, got False"):
        read_combined(sets, classes=["nv", False])  # type: ignore[list-item]


def _ham(root: Path, rows: str) -> str:
    root.mkdir()
    (root / "HAM10000_metadata.csv").write_text(HAM_HEADER + rows)
    return str(root)


def test_sets_of_one_archive_share_lesions_and_images_and_others_do_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = _ham(
        tmp_path / "a",
        "HAM_0000001,ISIC_0000001,nv,histo,50,male,back\nHAM_0000002,ISIC_0000002,nv,histo,50,male,back\n"
        ",ISIC_0000004,mel,histo,50,male,back\n",
    )
    second = tmp_path / "b"
    second.mkdir()
    (second / "ISIC_2019_Training_GroundTruth.csv").write_text(
        "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\nISIC_0000002_downsampled,1,0,0,0,0,0,0,0,0\n"
        "ISIC_0000003,0,1,0,0,0,0,0,0,0\nISIC_0000004,1,0,0,0,0,0,0,0,0\n"
    )
    (second / "ISIC_2019_Training_Metadata.csv").write_text(
        "image,age_approx,anatom_site_general,lesion_id,sex\nISIC_0000002_downsampled,,,,\nISIC_0000003,,,HAM_0000001,\n"
        "ISIC_0000004,,,,\n"
    )
    third = tmp_path / "c"
    third.mkdir()
    (third / "t.csv").write_text(
        "image_id,label,lesion_id,patient_id\nISIC_0000001,nv,1,P\nx,nv,HAM_0000002,IP_0000001\ny,mel,2,\n"
    )
    sets = {
        "ham10000": first,
        "isic2019": str(second),
        "mine": {"set": "csv", "root": str(third), "table": "t.csv"},
    }
    table = read_combined(sets, classes=["mel", "nv"]).set_index("image_id")
    lesions = table["lesion_id"].to_dict()
    assert lesions["ham10000/ISIC_0000001"] == lesions["isic2019/ISIC_0000003"] == "isic/HAM_0000001"
    assert lesions["ham10000/ISIC_0000002"] == lesions["isic2019/ISIC_0000002_downsampled"] == "isic/HAM_0000002"
    assert lesions["ham10000/ISIC_0000004"] == lesions["isic2019/ISIC_0000004"] == "isic/ISIC_0000004"
    assert (lesions["mine/ISIC_0000001"], lesions["mine/x"], lesions["mine/y"]) == (
        "mine/1",
        "isic/HAM_0000002",
        "mine/2",
    )
    assert table["patient_id"].dropna().tolist() == ["mine/P", "isic/IP_0000001"]
    shared = table["shared_image_id"].dropna()
    assert sorted(shared.unique()) == ["isic/ISIC_0000001", "isic/ISIC_0000002", "isic/ISIC_0000004"]
    assert len(shared) == 6
    assert "3 images are in several of the sets (ham10000, isic2019, mine), and count once for each" in caplog.text
    assert "isic/ISIC_0000002 (mel, nv)" in caplog.text
    assert "isic/ISIC_0000001 (isic/HAM_0000001, mine/1)" in caplog.text
    once = read_combined(sets, classes=["mel", "nv"], shared_images="first")
    assert once["image_id"].tolist() == [
        *("ham10000/ISIC_0000001", "ham10000/ISIC_0000002", "ham10000/ISIC_0000004"),
        *("isic2019/ISIC_0000003", "mine/x", "mine/y"),
    ]
    with pytest.raises(ConfigError, match="one of keep, first, got 'last'"):
        read_combined(sets, shared_images="last")  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", ["ISIC_0000001.jpg", "ISIC_0000001_downsampled.JPG", "train/ISIC_0000001.png"])
def test_an_id_of_the_archive_is_known_by_the_name_of_its_file_too(tmp_path: Path, cell: str) -> None:
    first = _ham(tmp_path / "a", "HAM_0000001,ISIC_0000001,nv,histo,50,male,back\n")
    second = tmp_path / "b"
    second.mkdir()
    (second / "t.csv").write_text(f"image_id,label,lesion_id\n{cell},nv,\ny.jpg,mel,HAM_0000001.jpg\n")
    sets = {"ham10000": first, "mine": {"set": "csv", "root": str(second), "table": "t.csv"}}
    table = read_combined(sets, classes=["mel", "nv"])
    assert table["shared_image_id"].tolist() == ["isic/ISIC_0000001"] * 2 + [None]
    assert table["lesion_id"].tolist() == ["isic/HAM_0000001"] * 3
    assert len(read_combined(sets, classes=["mel", "nv"], shared_images="first")) == 2


def test_one_set_has_nothing_to_share(ham10000: str) -> None:
    assert "shared_image_id" not in read_combined({"ham10000": ham10000}, classes=["akiec", "nv"])


def _typed_sets(message: str) -> list[dict[str, Any]]:
    """The values of `dataset.sets` in the remedies of `message`, as a shell and Hydra read them."""
    found = re.findall(r"'dataset\.sets=(?:[^'\n]|'\\'')*'", message)
    parsed = [parse_overrides(shlex.split(text)) for text in found]
    return [OmegaConf.to_container(OmegaConf.create({"value": each[0].value()}))["value"] for each in parsed]  # type: ignore[call-overload,index]


def test_what_a_reader_refuses_names_the_keys_of_the_sets(ham10000: str, isic2019: str) -> None:
    (Path(ham10000) / "it's").mkdir()
    (Path(ham10000) / "it's" / "HAM10000_metadata.csv").write_text(HAM_HEADER)
    sets = {"ham10000": ham10000, "other": {"set": "isic2019", "root": isic2019, "parts": ["train"]}}
    with pytest.raises(DataError, match="2 with different contents") as caught:
        read_combined(sets, ["akiec", "nv"])
    assert "dataset.ignore" not in str(caught.value)
    (remedy,) = _typed_sets(str(caught.value))
    assert remedy["other"] == sets["other"]
    assert set(read_combined(remedy, ["akiec", "nv"], on_unmappable="skip")["source"]) == {"ham10000", "other"}


def test_keys_without_a_value_and_placeholders_are_those_of_the_sets(ham10000: str) -> None:
    sets = {"ham10000": ham10000, "mine": {"set": "csv", "root": "/nowhere", "table": "t.csv"}}
    with pytest.raises(DataError, match=r"at dataset\.sets\.mine\.root") as caught:
        read_combined(sets)
    assert "set dataset.sets.mine.root=DIR to the folder" in str(caught.value)
    with pytest.raises(DataError, match=r"set dataset\.sets\.ham10000=DIR to the folder"):
        read_combined({"ham10000": "/nowhere"})
    words = ["dataset=combined", "dataset.sets={ham10000: /nowhere, mine: {set: csv, root: /nowhere, table: t.csv}}"]
    typed = ["dataset.sets.mine.root=/data/mine", "dataset.sets.ham10000=/data/ham10000"]
    assert compose([*words, *typed], root=Path("/project")).config["dataset"]["sets"] == {
        "ham10000": "/data/ham10000",
        "mine": {"set": "csv", "root": "/data/mine", "table": "t.csv"},
    }
