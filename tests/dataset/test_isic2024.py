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
