from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from lesion_exp.dataset.dermamnist import INFO, read_dermamnist
from lesion_exp.dataset.loading import Flow, TableOptions, load_table
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.image_file import read_image

COUNTS = {"train": 7, "val": 2, "test": 3}


def _arrays(size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(size)
    arrays: dict[str, np.ndarray] = {}
    for part, count in COUNTS.items():
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count, dtype=np.uint8) % 7)[:, None]
    return arrays


def _write(folder: Path, size: int, **changes: np.ndarray) -> dict[str, np.ndarray]:
    arrays = _arrays(size) | changes
    np.savez_compressed(folder / ("dermamnist.npz" if size == 28 else f"dermamnist_{size}.npz"), **arrays)
    return arrays


def test_order_of_the_classes_parts_and_pixels(tmp_path: Path) -> None:
    arrays = _write(tmp_path, 28)
    table = read_dermamnist(str(tmp_path))
    assert table["label"].tolist()[:7] == ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
    assert table["official_split"].value_counts().to_dict() == COUNTS
    assert table["image_path"][4].endswith("dermamnist.npz!/train_images/4")
    for part in COUNTS:
        rows = table[table["official_split"] == part].reset_index(drop=True)
        for number, path in enumerate(rows["image_path"]):
            assert np.array_equal(read_image(path), arrays[f"{part}_images"][number])
    assert table["image_id"].is_unique
    assert table[["lesion_id", "patient_id"]].isna().all(axis=None)


@pytest.mark.parametrize(("size", "expected"), [(None, 224), (28, 28), (64, 64), (224, 224)])
def test_size_chooses_the_file(tmp_path: Path, size: int | None, expected: int) -> None:
    for published in (28, 64, 224):
        _write(tmp_path, published)
    assert read_image(read_dermamnist(str(tmp_path), size)["image_path"][0]).shape == (expected, expected, 3)


def test_the_largest_is_told_by_number_not_by_name(tmp_path: Path) -> None:
    for published in (28, 64, 128):
        _write(tmp_path, published)
    assert "dermamnist_128.npz" in read_dermamnist(str(tmp_path))["image_path"][0]


def test_a_size_that_is_not_there_or_was_not_published(tmp_path: Path) -> None:
    _write(tmp_path, 28)
    with pytest.raises(DataError, match=r"expected dermamnist_128\.npz"):
        read_dermamnist(str(tmp_path), 128)
    with pytest.raises(ConfigError, match=r"dataset\.size to be one of 28, 64, 128, 224 or null, got 100"):
        read_dermamnist(str(tmp_path), 100)


def test_a_number_beyond_the_classes_is_an_unknown_label(tmp_path: Path) -> None:
    labels = np.asarray([[0], [9]], dtype=np.uint8)
    _write(tmp_path, 28, val_labels=labels)
    table = read_dermamnist(str(tmp_path))
    with pytest.raises(DataError, match="unknown label"):
        load_table(lambda: table, TableOptions(), Flow())
    flow = Flow()
    load_table(lambda: table, TableOptions(on_bad_image="skip"), flow)
    assert flow.left_out == [("dermamnist_val_00001", "unknown label")]


def test_broken_files_are_explained(tmp_path: Path) -> None:
    _write(tmp_path, 28, test_labels=np.zeros((2, 1), np.uint8))
    with pytest.raises(DataError, match="one label for each of the 3 images of test"):
        read_dermamnist(str(tmp_path))
    path = tmp_path / "dermamnist.npz"
    np.savez(path, train_images=np.zeros((1, 28, 28, 3), np.uint8))
    with pytest.raises(DataError, match="train_labels"):
        read_dermamnist(str(tmp_path))
    path.write_bytes(b"not a zip")
    with pytest.raises(DataError, match="cannot be read"):
        read_dermamnist(str(tmp_path))


def test_an_npz_inside_a_zip_must_be_unpacked(tmp_path: Path) -> None:
    _write(tmp_path, 28)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "dermamnist.npz", "dermamnist.npz")
    assert len(read_dermamnist(str(tmp_path))) == 12  # the unpacked twin is taken
    (tmp_path / "dermamnist.npz").unlink()
    with pytest.raises(DataError, match="inside a zip; unzip"):
        read_dermamnist(str(tmp_path))


def test_the_published_counts_sum_to_the_set() -> None:
    assert sum(INFO.published_counts.values()) == 7007 + 1003 + 2005
