from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from lesion_exp.dataset.findings import collected_findings
from lesion_exp.dataset.loading import Flow, TableOptions, load_table
from lesion_exp.dataset.pad_ufes_20 import INFO, read_pad_ufes_20
from lesion_exp.errors import DataError

METADATA = """\
patient_id,lesion_id,smoke,drink,background_father,background_mother,age,pesticide,gender,skin_cancer_history,\
cancer_history,has_piped_water,has_sewage_system,fitspatrick,region,diameter_1,diameter_2,diagnostic,itch,grew,hurt,\
changed,bleed,elevation,img_id,biopsed
PAT_1516,1765,,,,,8,,,,,,,,ARM,,,NEV,False,False,False,False,False,False,PAT_1516_1765_530.png,False
PAT_46,881,False,False,POMERANIA,POMERANIA,55,False,FEMALE,True,True,True,True,3.0,NECK,6.0,5.0,BCC,True,True,False,\
True,True,True,PAT_46_881_939.png,True
PAT_46,881,False,False,POMERANIA,POMERANIA,55,False,FEMALE,True,True,True,True,3.0,NECK,6.0,5.0,BCC,True,True,False,\
True,True,True,PAT_46_881_14.png,True
PAT_1545,1867,,,,,77,,MALE,,,,,,FACE,,,ACK,True,False,False,UNK,False,UNK,PAT_1545_1867_547.png,False
PAT_9,4,,,,,60,,MALE,,,,,1.0,BACK,,,SEK,False,False,False,False,False,True,PAT_9_4_1.png,False
"""


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    root = tmp_path / "pad"
    root.mkdir()
    (root / "metadata.csv").write_text(METADATA)
    for part, names in enumerate((["PAT_1516_1765_530", "PAT_46_881_939"], ["PAT_46_881_14", "PAT_1545_1867_547"])):
        folder = root / "images" / f"imgs_part_{part + 1}"
        folder.mkdir(parents=True)
        for name in [*names, *(["PAT_9_4_1"] if part else [])]:
            Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    return root


def test_labels_ids_and_symptoms(replica: Path) -> None:
    table = read_pad_ufes_20(str(replica))
    assert table["label"].tolist() == ["nv", "bcc", "bcc", "ak", "sk"]
    assert table["image_id"][0] == "PAT_1516_1765_530"
    assert table["lesion_id"].tolist() == ["PAT_1516_1765", "PAT_46_881", "PAT_46_881", "PAT_1545_1867", "PAT_9_4"]
    assert table["patient_id"].tolist() == ["PAT_1516", "PAT_46", "PAT_46", "PAT_1545", "PAT_9"]
    assert table["age"].tolist() == [8, 55, 55, 77, 60]
    assert table["sex"].tolist() == ["unknown", "female", "female", "male", "male"]
    assert table["site"].tolist() == ["arm", "neck", "neck", "face", "back"]
    assert table["skin_tone"].fillna(-1).tolist() == [-1, 3, 3, -1, 1]
    assert table["itch"].tolist() == ["false", "true", "true", "true", "false"]
    assert table["changed"][3] == "unknown"
    assert table["image_path"].notna().all()


def test_what_leaks_is_marked(replica: Path) -> None:
    table = read_pad_ufes_20(str(replica))
    assert table["leaks_biopsed"].tolist() == [False, True, True, False, False]
    assert not {"biopsed", "diagnostic"} & set(table.columns)


def test_zipped_parts_are_read_as_they_are(replica: Path) -> None:
    unpacked = read_pad_ufes_20(str(replica))
    for part in (1, 2):
        folder = replica / "images" / f"imgs_part_{part}"
        shutil.make_archive(str(folder), "zip", folder.parent, folder.name)
        shutil.rmtree(folder)
    zipped = read_pad_ufes_20(str(replica))
    assert zipped["image_path"].str.contains("imgs_part_[12].zip!/", regex=True).all()
    assert zipped.drop(columns="image_path").equals(unpacked.drop(columns="image_path"))


def test_faults_are_reported(replica: Path) -> None:
    (replica / "images/imgs_part_1/PAT_46_881_939.png").unlink()
    (replica / "metadata.csv").write_text(METADATA.replace(",NEV,", ",XXX,"))
    flow = Flow()
    kept = load_table(lambda: read_pad_ufes_20(str(replica)), TableOptions(on_bad_image="skip"), flow)
    assert len(kept) == 3
    assert flow.left_out == [("PAT_46_881_939", "no image file"), ("PAT_1516_1765_530", "unknown label")]


def test_missing_columns_are_named(replica: Path) -> None:
    (replica / "metadata.csv").write_text(METADATA.replace("fitspatrick", "fitzpatrick"))
    with pytest.raises(DataError, match=r"columns fitspatrick in metadata\.csv"):
        read_pad_ufes_20(str(replica))


def test_the_published_counts_sum_to_the_set() -> None:
    assert sum(INFO.published_counts.values()) == 2298


def metadata_of(without_sex: int) -> str:
    """60 lesions, every other one biopsied. Those without a biopsy have neither sex nor history.

    The biopsied lesion `without_sex` has no sex either. The itch of a lesion of either kind is unknown.
    """
    header = METADATA.splitlines()[0]
    rows = []
    for number in range(60):
        biopsied = number % 2 == 0
        cells = dict.fromkeys(header.split(","), "")
        cells |= {"patient_id": f"PAT_{number}", "lesion_id": str(number), "age": str(20 + number), "region": "ARM",
                  "diagnostic": "BCC" if biopsied else "NEV", "img_id": f"{number}.png", "biopsed": str(biopsied),
                  "itch": "UNK" if number < 2 else "True"}  # fmt: skip
        if biopsied:
            cells |= {"smoke": "True", "fitspatrick": "2.0", "gender": "" if number == without_sex else "MALE"}
        rows.append(",".join(cells.values()))
    return "\n".join([header, *rows, ""])


def test_columns_that_are_empty_only_without_a_biopsy_are_recorded(replica: Path) -> None:
    def found() -> list[str]:
        with collected_findings() as findings:
            read_pad_ufes_20(str(replica))
        return [case for one in findings if "not biopsied" in one.text for case in one.cases]

    assert found() == [], "too few rows to say so"
    shutil.rmtree(replica / "images")
    (replica / "metadata.csv").write_text(metadata_of(without_sex=1))
    cases = found()
    assert cases[0] == "sex: 30 of 60 rows"
    assert {"skin_tone: 30 of 60 rows", "smoke: 30 of 60 rows"} <= set(cases)
    assert not [case for case in cases if case.startswith(("age", "site", "itch"))]
    (replica / "metadata.csv").write_text(metadata_of(without_sex=2))
    assert not [case for case in found() if case.startswith("sex")], "a biopsied lesion lacks it as well"
