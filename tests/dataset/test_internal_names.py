"""Columns of the user's whose names have a meaning inside: no reader breaks, and no internal column changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesion_exp.dataset.csv import read_csv
from lesion_exp.dataset.ddi import read_ddi
from lesion_exp.dataset.derm7pt import read_derm7pt
from lesion_exp.dataset.fitzpatrick17k import read_fitzpatrick17k
from lesion_exp.dataset.ham10000 import read_ham10000
from lesion_exp.dataset.isic2018 import read_isic2018
from lesion_exp.dataset.isic2019 import read_isic2019
from lesion_exp.dataset.isic2020 import read_isic2020
from lesion_exp.dataset.isic2024 import read_isic2024
from lesion_exp.dataset.loading import to_target
from lesion_exp.dataset.milk10k import read_milk10k
from lesion_exp.dataset.pad_ufes_20 import read_pad_ufes_20
from lesion_exp.dataset.synthetic import read_synthetic
from lesion_exp.dataset.table import INTERNAL_NAMES
from lesion_exp.evaluation.predictions import ENERGY, ID_COLUMNS, SUBGROUP_COLUMNS
from lesion_exp.split.kfold import KFold
from lesion_exp.taxonomy import IS_UNKNOWN
from lesion_exp.training.data import with_groups

Reader = Callable[[str], pd.DataFrame]
STRANGE = "999"
"""A value that none of the sets holds."""


class Replica(NamedTuple):
    read: Reader
    extended: str
    """The table that gets further columns."""
    files: Mapping[str, str]
    images: tuple[str, ...]


def _one_hot(names: str, hot: int, image: str, key: str = "image") -> str:
    columns = names.split(",")
    return f"{key},{names}\n{image},{','.join('1' if place == hot else '0' for place in range(len(columns)))}\n"


_DX = "MEL,NV,BCC,AKIEC,BKL,DF,VASC"
REPLICAS = {
    "csv": Replica(
        partial(read_csv, table="t.csv", columns={"image_id": "case", "label": "dx"}),
        "t.csv",
        {"t.csv": "case,dx\na,nv\n"},
        ("a.jpg",),
    ),
    "csv_one_hot": Replica(
        partial(read_csv, table="t.csv", columns={"image_id": "case"}, one_hot=["NV", "MEL"]),
        "t.csv",
        {"t.csv": "case,NV,MEL\na,1,0\n"},
        ("a.jpg",),
    ),
    "ddi": Replica(
        read_ddi,
        "ddi_metadata.csv",
        {"ddi_metadata.csv": "DDI_file,skin_tone,malignant,disease\na.png,12,True,x\n"},
        ("a.png",),
    ),
    "derm7pt": Replica(
        read_derm7pt,
        "meta.csv",
        {
            "meta.csv": "case_num,diagnosis,location,sex,management,clinic,derm,notes\n"
            "1,melanoma,back,male,excision,c.jpg,d.jpg,\n",
            "train_indexes.csv": "indexes\n0\n",
            "valid_indexes.csv": "indexes\n",
            "test_indexes.csv": "indexes\n",
        },
        ("c.jpg", "d.jpg"),
    ),
    "fitzpatrick17k": Replica(
        read_fitzpatrick17k,
        "fitzpatrick17k.csv",
        {
            "fitzpatrick17k.csv": "md5hash,fitzpatrick_scale,fitzpatrick_centaur,label,nine_partition_label,"
            "three_partition_label,qc,url,url_alphanum\na,3,3,x,malignant melanoma,malignant,,u,u\n"
        },
        ("a.jpg",),
    ),
    "ham10000": Replica(
        read_ham10000,
        "HAM10000_metadata.csv",
        {"HAM10000_metadata.csv": "lesion_id,image_id,dx,dx_type,age,sex,localization\nL,a,nv,histo,50,male,back\n"},
        ("a.jpg",),
    ),
    "isic2018": Replica(
        read_isic2018,
        "ISIC2018_Task3_Training_LesionGroupings.csv",
        {
            "ISIC2018_Task3_Training_GroundTruth.csv": _one_hot(_DX, 1, "a"),
            "ISIC2018_Task3_Training_LesionGroupings.csv": "image,lesion_id,diagnosis_confirm_type\na,L,histo\n",
        },
        ("a.jpg",),
    ),
    "isic2018_truth": Replica(
        partial(read_isic2018, need_lesion_groups=False),
        "ISIC2018_Task3_Training_GroundTruth.csv",
        {"ISIC2018_Task3_Training_GroundTruth.csv": _one_hot(_DX, 1, "a")},
        ("a.jpg",),
    ),
    "isic2019": Replica(
        read_isic2019,
        "ISIC_2019_Training_Metadata.csv",
        {
            "ISIC_2019_Training_GroundTruth.csv": _one_hot("MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK", 1, "a"),
            "ISIC_2019_Training_Metadata.csv": "image,age_approx,anatom_site_general,lesion_id,sex\na,50,back,L,male\n",
        },
        ("a.jpg",),
    ),
    "isic2020": Replica(
        partial(read_isic2020, drop_listed_duplicates=False),
        "train.csv",
        {
            "train.csv": "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,"
            "benign_malignant,target\na,IP,male,50,back,nevus,benign,0\n"
        },
        ("a.jpg",),
    ),
    "isic2024": Replica(
        read_isic2024,
        "train-metadata.csv",
        {
            "train-metadata.csv": "isic_id,target,patient_id,lesion_id,age_approx,sex,anatom_site_general,iddx_1,"
            "mel_mitotic\na,0,IP,L,50,male,back,Benign,\n"
        },
        ("a.jpg",),
    ),
    "milk10k": Replica(
        read_milk10k,
        "MILK10k_Training_Metadata.csv",
        {
            "MILK10k_Training_GroundTruth.csv": _one_hot(
                "AKIEC,BCC,BEN_OTH,BKL,DF,INF,MAL_OTH,MEL,NV,SCCKA,VASC", 8, "L", "lesion_id"
            ),
            "MILK10k_Training_Metadata.csv": "lesion_id,image_type,isic_id,age_approx,sex,skin_tone_class,site\n"
            "L,dermoscopic,ISIC_1,50,male,3,back\nL,clinical: close-up,ISIC_2,50,male,3,back\n",
        },
        ("ISIC_1.jpg", "ISIC_2.jpg"),
    ),
    "pad_ufes_20": Replica(
        read_pad_ufes_20,
        "metadata.csv",
        {
            "metadata.csv": "patient_id,lesion_id,age,gender,fitspatrick,region,diagnostic,itch,grew,hurt,changed,"
            "bleed,elevation,img_id,biopsed\nPAT_1,2,50,MALE,3,BACK,NEV,True,False,False,UNK,False,True,PAT_1.png,False\n"
        },
        ("PAT_1.png",),
    ),
}
UNDERSTOOD = {
    "csv": {
        *("image_id", "image_path", "label", "lesion_id", "patient_id", "mask_path", "age", "sex", "site"),
        *("clinical_path", "official_split"),
    },
    "isic2020": {"lesion_id"},
}
"""Columns that a reader uses where they are there."""
FURTHER = ("skin_tone", "clinical_id", "clinical_path", "p_nv", "leaks_dx_type", "leaks_target", "leaks_iddx_1", "raw")
"""Names that single readers give, and names with a prefix that means something."""


def _write(replica: Replica, root: Path) -> None:
    for name, text in replica.files.items():
        (root / name).write_text(text)
    for name in replica.images:
        Image.new("RGB", (8, 8)).save(root / name)


def _with_column(text: str, name: str) -> str:
    header, *rows = text.splitlines()
    return "\n".join([f"{header},{name}", *(f"{row},{STRANGE}" for row in rows), ""])


@pytest.mark.parametrize("name", REPLICAS)
def test_no_column_of_the_users_breaks_a_reader_or_changes_a_column_of_its_own(name: str, tmp_path: Path) -> None:
    replica = REPLICAS[name]
    _write(replica, tmp_path)
    plain = replica.read(str(tmp_path))
    assert plain["label"].notna().all()
    original = replica.files[replica.extended]
    published = set(original.splitlines()[0].split(","))
    understood = UNDERSTOOD.get(name.partition("_")[0], set())
    for column in sorted((INTERNAL_NAMES | set(FURTHER)) - published - understood):
        (tmp_path / replica.extended).write_text(_with_column(original, column))
        found = replica.read(str(tmp_path))
        assert found.columns.is_unique, column
        pd.testing.assert_frame_equal(found[plain.columns], plain, obj=column)
        assert set(found.columns) - set(plain.columns) <= {f"file_{column}", *FURTHER, column} - INTERNAL_NAMES, column


def test_a_name_that_is_mapped_elsewhere_keeps_its_column_under_another_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(
        Replica(read_csv, "", {"t.csv": "case,dx,label,file_label,image_id\na,nv,one,two,three\n"}, ("a.jpg",)),
        tmp_path,
    )
    with caplog.at_level("INFO"):
        table = read_csv(str(tmp_path), "t.csv", columns={"image_id": "case", "label": "dx"})
    row = table.iloc[0]
    assert (row["image_id"], row["label"]) == ("a", "nv")
    assert (row["file_label"], row["file_file_label"], row["file_image_id"]) == ("two", "one", "three")
    assert "label as file_file_label" in caplog.text


def test_a_column_of_the_sets_own_has_the_names_that_are_used_elsewhere(tmp_path: Path) -> None:
    _write(Replica(read_csv, "", {"t.csv": "label,image_id\na,nv\n"}, ("a.jpg",)), tmp_path)
    table = read_csv(str(tmp_path), "t.csv", columns={"image_id": "label", "label": "image_id"})
    assert (table["image_id"][0], table["label"][0]) == ("a", "nv")


def test_no_kept_column_has_a_name_that_predictions_tables_refuse() -> None:
    assert {"prediction", ENERGY, IS_UNKNOWN, *ID_COLUMNS, *SUBGROUP_COLUMNS} <= INTERNAL_NAMES


def test_all_internal_columns_are_listed(tmp_path: Path) -> None:
    """What the reader of the generated set, the task and the split add is in the list of reserved names."""
    table = read_synthetic(str(tmp_path), num_lesions=40, image_height=32, image_width=32)
    rng = np.random.default_rng(0)
    hashed = to_target(table, "malignant").assign(
        sha256=[f"{number:064x}" for number in range(len(table))],
        phash=rng.integers(0, 2**63, len(table), dtype=np.uint64),
        thumbnail=[rng.integers(0, 256, 256, dtype=np.uint8).tobytes() for _ in range(len(table))],
    )
    split = KFold(seed=0, num_folds=4, fold=0, val_ratio=0.2).split(
        with_groups({"near_duplicate_threshold": 1}, hashed)
    )
    assert set(split.columns) - {"skin_tone"} <= INTERNAL_NAMES
