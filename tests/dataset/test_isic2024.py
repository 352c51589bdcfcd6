from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from lesion_exp.dataset.isic2024 import INFO, read_isic2024
from lesion_exp.errors import DataError
from lesion_exp.image_file import read_bytes, read_image

METADATA = """\
isic_id,target,patient_id,age_approx,sex,anatom_site_general,clin_size_long_diam_mm,lesion_id,iddx_full,mel_thick_mm
ISIC_0015670,0,IP_1235828,60.0,male,lower extremity,3.04,,Benign,
ISIC_0015845,1,IP_8170065,,,,1.1,IL_6727506,Malignant::Melanoma,0.3
"""
COLOURS = {"ISIC_0015670": (200, 10, 10), "ISIC_0015845": (10, 200, 10)}


def _jpeg(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def _as_void(encoded: bytes) -> object:
    return np.void(encoded)


def _as_fixed_bytes(encoded: bytes) -> object:
    return np.bytes_(encoded)


def _as_array(encoded: bytes) -> object:
    return np.frombuffer(encoded, dtype=np.uint8)


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    (tmp_path / "train-metadata.csv").write_text(METADATA)
    return tmp_path


@pytest.mark.parametrize("stored", [_as_void, _as_fixed_bytes, _as_array])
def test_images_in_the_hdf5_file_are_located_and_decoded(replica: Path, stored: Callable[[bytes], object]) -> None:
    with h5py.File(replica / "train-image.hdf5", "w") as opened:
        for key, colour in COLOURS.items():
            opened[key] = stored(_jpeg(colour))
    table = read_isic2024(str(replica))
    assert table["image_path"].tolist() == [f"{replica}/train-image.hdf5!/{key}" for key in COLOURS]
    for locator, colour in zip(table["image_path"], COLOURS.values(), strict=True):
        assert read_bytes(locator) == _jpeg(colour)
        assert np.abs(read_image(locator).astype(int) - colour).max() < 8


def test_images_as_single_files_in_a_zip(replica: Path) -> None:
    with zipfile.ZipFile(replica / "isic-2024-challenge.zip", "w") as archive:
        for key, colour in COLOURS.items():
            archive.writestr(f"train-image/image/{key}.jpg", _jpeg(colour))
    table = read_isic2024(str(replica))
    assert read_image(table["image_path"][1]).shape == (8, 8, 3)


def test_columns(replica: Path) -> None:
    with h5py.File(replica / "train-image.hdf5", "w") as opened:
        opened["ISIC_0015670"] = np.void(_jpeg((1, 2, 3)))
    table = read_isic2024(str(replica))
    assert table["label"].tolist() == ["benign", "malignant"]
    assert table["image_path"].isna().tolist() == [False, True]
    assert table["patient_id"].tolist() == ["IP_1235828", "IP_8170065"]
    assert table["site"].tolist() == ["lower extremity", "unknown"]
    assert table["clin_size_long_diam_mm"].tolist() == [3.04, 1.1]
    assert {"leaks_target", "leaks_iddx_full", "leaks_mel_thick_mm"} <= set(table.columns)
    assert not {"target", "iddx_full", "mel_thick_mm"} & set(table.columns)


def test_an_hdf5_file_that_is_zipped_missing_or_broken(replica: Path) -> None:
    with pytest.raises(DataError, match=r"expected train-image\.hdf5"):
        read_isic2024(str(replica))
    with zipfile.ZipFile(replica / "download.zip", "w") as archive:
        archive.writestr("train-image.hdf5", b"x")
    with pytest.raises(DataError, match=r"unzip .*download\.zip"):
        read_isic2024(str(replica))
    (replica / "download.zip").unlink()
    (replica / "train-image.hdf5").write_bytes(b"broken")
    with pytest.raises(DataError, match="cannot be opened"):
        read_isic2024(str(replica))


def test_the_published_counts_sum_to_the_set() -> None:
    assert sum(INFO.published_counts.values()) == 401_059


@pytest.mark.parametrize("of", ["Training", "Permissive_Training"])
def test_the_download_of_the_isic_archive(tmp_path: Path, of: str) -> None:
    """The labels are a file of their own, and the metadata lie among the images."""
    lines = [line.split(",") for line in METADATA.splitlines()]
    rows = [",".join([line[0], *line[2:7]]) for line in (lines[0], *reversed(lines[1:]))]
    rows[0] += ",diagnosis_1,diagnosis_confirm_type,benign_malignant,melanocytic,concomitant_biopsy"
    rows[1:] = [f"{row},Benign,,benign,True,False" for row in rows[1:]]
    truth = "isic_id,malignant\n" + "".join(f"{line[0]},{line[1]}.0\n" for line in lines[1:])
    (tmp_path / f"ISIC_2024_{of}_GroundTruth.csv").write_text(truth)
    (tmp_path / f"ISIC_2024_{of}_Supplement.csv").write_text("isic_id,iddx_1\nISIC_0015670,Benign\n")
    with zipfile.ZipFile(tmp_path / f"ISIC_2024_{of}_Input.zip", "w") as archive:
        archive.writestr(f"ISIC_2024_{of}_Input/metadata.csv", "\n".join(rows))
        for key, colour in COLOURS.items():
            archive.writestr(f"ISIC_2024_{of}_Input/{key}.jpg", _jpeg(colour))
    table = read_isic2024(str(tmp_path))
    assert table["label"].tolist() == ["benign", "malignant"]
    assert table["patient_id"].tolist() == ["IP_1235828", "IP_8170065"]
    assert table["leaks_target"].tolist() == [0, 1]
    assert table["age"].tolist()[0] == 60
    names = ("diagnosis_1", "diagnosis_confirm_type", "benign_malignant", "melanocytic", "concomitant_biopsy")
    assert {f"leaks_{name}" for name in names} <= set(table.columns)
    assert not set(names) & set(table.columns)
    for locator, colour in zip(table["image_path"], COLOURS.values(), strict=True):
        assert np.abs(read_image(locator).astype(int) - colour).max() < 8


def test_the_labels_of_the_archive_without_its_metadata_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-metadata\.csv or ISIC_2024_Training_GroundTruth\.csv"):
        read_isic2024(str(tmp_path))
    (tmp_path / "ISIC_2024_Training_GroundTruth.csv").write_text("isic_id,malignant\nISIC_0015670,0\n")
    with pytest.raises(DataError, match=r"expected metadata\.csv"):
        read_isic2024(str(tmp_path))
