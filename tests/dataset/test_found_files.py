"""What a user meets whose files are not as published: two candidates, masks, other endings, joins that do not fit."""

from __future__ import annotations

import re
import shlex
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

from lesion_exp.dataset.csv import read_csv
from lesion_exp.dataset.dermamnist import read_dermamnist
from lesion_exp.dataset.findings import collected_findings
from lesion_exp.dataset.folder import read_folder
from lesion_exp.dataset.ham10000 import read_ham10000
from lesion_exp.dataset.isic2018 import read_isic2018
from lesion_exp.dataset.isic2020 import read_isic2020
from lesion_exp.dataset.pad_ufes_20 import read_pad_ufes_20
from lesion_exp.errors import ConfigError, DataError


def _picture(path: Path, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 9, 9)).save(path, "PNG" if path.suffix == ".png" else "JPEG")


def _typed(message: str) -> dict[str, Any]:
    """The override that a message tells to type, as the shell and Hydra read it: key below dataset -> value."""
    found = re.findall(r"'dataset\.[^']*'", message)
    assert found, message
    key, _, value = shlex.split(found[-1])[0].partition("=")
    return {key.removeprefix("dataset."): yaml.safe_load(value)}


def _table(root: Path, count: int = 4) -> None:
    (root / "t.csv").write_text(
        "image_id,label\n" + "".join(f"X{n},{'mel' if n % 2 else 'nv'}\n" for n in range(count))
    )


def test_masks_of_the_same_names_are_no_images(tmp_path: Path) -> None:
    _table(tmp_path)
    for number in range(4):
        _picture(tmp_path / f"GroundTruth/X{number}.png", 255)
        _picture(tmp_path / f"images/X{number}.jpg", number)
    with collected_findings() as found:
        table = read_csv(str(tmp_path), "t.csv")
    assert [Path(path).parent.name for path in table["image_path"]] == ["images"] * 4
    assert any(each.text.startswith("4 files") and "count as masks" in each.text for each in found)
    asked = read_csv(str(tmp_path), "t.csv", images="GroundTruth/*")
    assert [Path(path).parent.name for path in asked["image_path"]] == ["GroundTruth"] * 4


def test_masks_that_rows_have_are_not_named_among_files_that_are_not_read(tmp_path: Path) -> None:
    for number in range(4):
        _picture(tmp_path / f"masks/X{number}.png", 255)
        _picture(tmp_path / f"superpixels/X{number}_superpixels.png", number)
        _picture(tmp_path / f"images/X{number}.jpg", number)
    (tmp_path / "t.csv").write_text(
        "image_id,label,mask_path\n" + "".join(f"X{n},{'mel' if n % 2 else 'nv'},masks/X{n}.png\n" for n in range(4))
    )
    with collected_findings() as found:
        table = read_csv(str(tmp_path), "t.csv")
    assert table["mask_path"].notna().all()
    [told] = [each for each in found if "count as masks" in each.text]
    assert told.text.startswith("4 files")
    assert all("superpixels/" in case for case in told.cases)


@pytest.mark.parametrize("others", [["b/X0.jpg"], ["b/X0.jpg", "c d/X0.jpg"], ["X0.png"]])
def test_a_name_that_fits_several_images_is_an_error_whose_remedy_works(tmp_path: Path, others: list[str]) -> None:
    _table(tmp_path)
    for number in range(4):
        _picture(tmp_path / f"a/X{number}.jpg", number)
    for shade, other in enumerate(others, 100):
        _picture(tmp_path / other, shade)
    with pytest.raises(DataError, match=r"(?s)1 of 4 names fit several files.*X0: ") as error:
        read_csv(str(tmp_path), "t.csv")
    assert all(other in str(error.value) for other in others)
    table = read_csv(str(tmp_path), "t.csv", **_typed(str(error.value)))
    assert table["image_path"].notna().all()


def test_copies_of_an_image_are_one_candidate(tmp_path: Path) -> None:
    _table(tmp_path)
    for number in range(4):
        _picture(tmp_path / f"a/X{number}.jpg", number)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted((tmp_path / "a").iterdir()):
            archive.write(path, path.name)
    table = read_csv(str(tmp_path), "t.csv")
    assert [Path(path).parent.name for path in table["image_path"]] == ["a"] * 4


def test_one_of_two_tables_is_chosen_by_its_key(tmp_path: Path) -> None:
    _picture(tmp_path / "X0.jpg")
    _picture(tmp_path / "X1.jpg")
    _table(tmp_path, 2)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "t.csv").write_text("image_id,label\nX1,nv\n")
    with pytest.raises(DataError, match=r"(?s)got 2 with different contents.*old/t\.csv") as error:
        read_csv(str(tmp_path), "t.csv")
    assert len(read_csv(str(tmp_path), **_typed(str(error.value)))) in {1, 2}
    (tmp_path / "old" / "t.csv").write_bytes((tmp_path / "t.csv").read_bytes())
    assert len(read_csv(str(tmp_path), "t.csv")) == 2


def test_two_metadata_files_of_a_published_set(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "metadata.csv").write_text(folder)
    with pytest.raises(DataError, match=r"expected one file metadata\.csv") as error:
        read_pad_ufes_20(str(tmp_path))
    assert _typed(str(error.value)) == {"ignore": ["b/*"]}


def test_two_npz_files_of_one_size(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "dermamnist.npz").write_text(folder)
    with pytest.raises(DataError, match=r"expected one file dermamnist\.npz"):
        read_dermamnist(str(tmp_path))


def test_a_pattern_that_ignores_nothing_is_a_mistake(tmp_path: Path) -> None:
    _picture(tmp_path / "nv/1.jpg")
    with pytest.raises(ConfigError, match=r"'olt/\*' fits none"):
        read_folder(str(tmp_path), ignore=["olt/*"])


def test_a_folder_set_leaves_masks_out_and_takes_all_endings_of_jpeg(tmp_path: Path) -> None:
    for name in ("nv/X.jpg", "nv/X_mask.png", "nv/Y.JPE", "mel/Z.jfif", "masks/X.png"):
        _picture(tmp_path / name, len(name))
    table = read_folder(str(tmp_path))
    assert table["image_id"].tolist() == ["mel/Z", "nv/X", "nv/Y"]
    assert read_folder(str(tmp_path), images="*_mask.png")["image_id"].tolist() == ["nv/X_mask"]


def test_a_class_folder_without_any_image_is_an_error(tmp_path: Path) -> None:
    _picture(tmp_path / "nv/1.jpg")
    (tmp_path / "mel").mkdir()
    (tmp_path / "mel" / "1.dcm").write_text("x")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "notes.pdf").write_text("x")
    with pytest.raises(DataError, match=r"(?s)1 folders hold only files of other kinds:\n  - mel: mel/1\.dcm") as error:
        read_folder(str(tmp_path))
    assert read_folder(str(tmp_path), **_typed(str(error.value)))["label"].tolist() == ["nv"]


def test_two_different_images_of_one_id_in_a_folder_set(tmp_path: Path) -> None:
    _picture(tmp_path / "nv/1.jpg", 1)
    _picture(tmp_path / "nv/1.png", 99)
    with pytest.raises(DataError, match=r"nv/1: nv/1\.jpg, nv/1\.png") as error:
        read_folder(str(tmp_path))
    assert len(read_folder(str(tmp_path), **_typed(str(error.value)))) == 1


def test_names_that_fit_no_file_are_refused_with_both_sides(tmp_path: Path) -> None:
    _table(tmp_path)
    for number in range(4):
        _picture(tmp_path / f"img_{number}.jpg")
    with pytest.raises(DataError, match=r"0 are there: the rows name 'X0'.*img_0\.jpg.*dataset\.image_suffix"):
        read_csv(str(tmp_path), "t.csv")


def _isic2018(root: Path, names: list[str]) -> None:
    header = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\n"
    rows = [f"ISIC_{number},1,0,0,0,0,0,0\n" for number in range(6)]
    (root / "ISIC2018_Task3_Training_GroundTruth.csv").write_text(header + "".join(rows))
    groups = [f"{name},HAM_{number // 2},histo\n" for number, name in enumerate(names)]
    (root / "ISIC2018_Task3_Training_LesionGroupings.csv").write_text(
        "image,lesion_id,diagnosis_confirm_type\n" + "".join(groups)
    )
    for number in range(6):
        _picture(root / f"ISIC_{number}.jpg", number)


@pytest.mark.parametrize("form", ["ISIC_{}.jpg", "ISIC_{}.JPG ", "isic_{}", "images/ISIC_{}"])
def test_lesion_groups_find_their_images_however_they_are_written(tmp_path: Path, form: str) -> None:
    _isic2018(tmp_path, [form.format(number).removeprefix("images/") for number in range(6)])
    assert read_isic2018(str(tmp_path))["lesion_id"].tolist() == ["HAM_0", "HAM_0", "HAM_1", "HAM_1", "HAM_2", "HAM_2"]


def test_lesion_groups_of_other_images_are_refused(tmp_path: Path) -> None:
    _isic2018(tmp_path, [f"other_{number}" for number in range(6)])
    with pytest.raises(DataError, match=r"6 of 6 are not there.*dataset\.need_lesion_groups=false"):
        read_isic2018(str(tmp_path))
    _isic2018(tmp_path, [f"ISIC_{number}" for number in range(5)])
    with collected_findings() as found:
        assert read_isic2018(str(tmp_path))["lesion_id"].isna().sum() == 1
    assert any(each.level == "warning" and "5 of 6 rows" in each.text for each in found)


def test_a_missing_list_names_the_key_that_goes_on_without(tmp_path: Path) -> None:
    _isic2018(tmp_path, ["ISIC_0"])
    (tmp_path / "ISIC2018_Task3_Training_LesionGroupings.csv").unlink()
    with pytest.raises(DataError, match=r"set dataset\.need_lesion_groups=false"):
        read_isic2018(str(tmp_path))
    columns = "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target\n"
    (tmp_path / "train.csv").write_text(columns + "ISIC_0,IP_1,male,50,torso,unknown,benign,0\n")
    with pytest.raises(DataError, match=r"set dataset\.drop_listed_duplicates=false"):
        read_isic2020(str(tmp_path))
    assert len(read_isic2020(str(tmp_path), drop_listed_duplicates=False)) == 1


def test_the_download_of_a_repository_in_one_zip(tmp_path: Path) -> None:
    inner = tmp_path / "HAM10000_images_part_1.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        for number in range(3):
            _picture(tmp_path / f"ISIC_{number}.png", number)
            archive.write(tmp_path / f"ISIC_{number}.png", f"ISIC_{number}.png")  # another ending than published
            (tmp_path / f"ISIC_{number}.png").unlink()
    with zipfile.ZipFile(tmp_path / "dataverse_files.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(inner, inner.name)
        rows = "".join(f"HAM_{number}\tISIC_{number}.jpg\tnv\thisto\t50\tmale\tback\n" for number in range(3))
        archive.writestr("HAM10000_metadata.tab", "lesion_id\timage_id\tdx\tdx_type\tage\tsex\tlocalization\n" + rows)
    inner.unlink()
    table = read_ham10000(str(tmp_path))
    assert table["image_id"].tolist() == ["ISIC_0", "ISIC_1", "ISIC_2"]
    assert table["image_path"].str.startswith(f"{tmp_path}/dataverse_files.zip!/HAM10000_images_part_1.zip!/").all()


def test_published_counts_follow_the_arguments() -> None:
    from lesion_exp.dataset import derm7pt, fitzpatrick17k, ham10000, isic2018, isic2019, isic2020

    assert sum(ham10000.INFO.counts_for({"parts": ["train", "test"]}).values()) == 11_526
    assert sum(isic2018.INFO.counts_for({"parts": ["train", "val", "test"]}).values()) == 10_015 + 193 + 1_511
    assert sum(isic2019.INFO.counts_for({"parts": ["test"]}).values()) == 8_238
    assert sum(isic2020.INFO.counts_for({}).values()) == 32_120
    assert isic2020.INFO.counts_for({"label": "diagnosis", "drop_listed_duplicates": True}) == {}
    assert sum(derm7pt.INFO.counts_for({"grouping": "fine"}).values()) == 1_011
    assert set(derm7pt.INFO.counts_for({"grouping": "fine"})) == set(derm7pt.FINE_CODES.values())
    nine = fitzpatrick17k.INFO.counts_for({"partition": "nine"})
    assert sum(nine.values()) == 16_577
    assert set(nine) == set(fitzpatrick17k.NINE.values())


def test_paths_of_a_table_that_fit_two_files(tmp_path: Path) -> None:
    _picture(tmp_path / "x.jpg", 1)
    _picture(tmp_path / "meta/x.jpg", 200)
    (tmp_path / "meta" / "t.csv").write_text("image_path,label\nx.jpg,nv\n")
    with pytest.raises(DataError, match=r"x\.jpg: meta/x\.jpg, x\.jpg"):
        read_csv(str(tmp_path), "t.csv")
    (tmp_path / "x.jpg").unlink()
    assert isinstance(read_csv(str(tmp_path), "t.csv"), pd.DataFrame)


def test_rows_that_spell_one_file_differently_are_said(tmp_path: Path) -> None:
    _picture(tmp_path / "X_downsampled.jpg")
    _picture(tmp_path / "Y.jpg", 50)
    (tmp_path / "t.csv").write_text("image_id,label\nX,nv\nX_downsampled,nv\nY,mel\n")
    with collected_findings() as found:
        read_csv(str(tmp_path), "t.csv")
    said = [each.in_a_line() for each in found if each.level == "warning"]
    assert len(said) == 1
    assert "1 image files of the table of images are named by several rows" in said[0]
    assert "X, X_downsampled: X_downsampled.jpg" in said[0]


def test_of_two_folders_the_photographs_are_proposed_first(tmp_path: Path) -> None:
    _table(tmp_path)
    for name in pd.read_csv(tmp_path / "t.csv")["image_id"]:
        _picture(tmp_path / "annotated" / f"{name}.png", 99)
        _picture(tmp_path / "photos" / f"{name}.jpg", 9)
    with pytest.raises(DataError) as caught:
        read_csv(str(tmp_path), "t.csv")
    table = read_csv(str(tmp_path), "t.csv", **_typed(str(caught.value)))
    assert table["image_path"].str.endswith(".jpg").all()


def test_paths_of_another_machine_name_the_key_that_looks_for_the_ids(tmp_path: Path) -> None:
    _table(tmp_path)
    table = pd.read_csv(tmp_path / "t.csv")
    for name in table["image_id"]:
        _picture(tmp_path / f"{name}.jpg")
    table.assign(image_path="/elsewhere/" + table["image_id"] + ".jpg").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"'dataset\.columns=\{image_path: null\}'"):
        read_csv(str(tmp_path), "t.csv")
    assert read_csv(str(tmp_path), "t.csv", {"image_path": None})["image_path"].notna().all()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("HAM10000_metadata (1).csv", "rename"),
        ("HAM10000_metadata.csv.csv", "rename"),
        ("HAM10000_metadata.xlsx", "save"),
    ],
)
def test_a_table_under_another_name_is_found_in_the_message(tmp_path: Path, name: str, remedy: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=rf"{remedy} {re.escape(name)} (to|as) HAM10000_metadata\.csv"):
        read_ham10000(str(tmp_path))
