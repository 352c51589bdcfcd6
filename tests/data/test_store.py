import errno
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesion_exp.data import store_builder
from lesion_exp.data.store import ImageStore, open_or_build
from lesion_exp.data.store_builder import StoreRequest
from lesion_exp.errors import ConfigError, DataError


@pytest.fixture
def table(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number, (height, width) in enumerate([(60, 80), (80, 60), (30, 30)]):
        pixels = np.kron(
            rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8), np.ones((10, 10, 1), "u1")
        )
        Image.fromarray(pixels).save(folder / f"{number}.png")
        Image.fromarray((pixels[..., 0] > 127).astype("u1") * 255).save(folder / f"{number}_mask.png")
        rows.append((f"i{number}", str(folder / f"{number}.png"), str(folder / f"{number}_mask.png")))
    return pd.DataFrame(rows, columns=["image_id", "image_path", "mask_path"])


def test_images_are_kept_with_their_aspect_and_never_enlarged(table, tmp_path):
    store = open_or_build(table, StoreRequest(40), tmp_path / "cache")
    shapes = [store.read(row).shape for row in store.rows(table["image_id"])]
    assert shapes == [(40, 53, 3), (53, 40, 3), (30, 30, 3)]


def test_a_small_enough_image_is_stored_exactly(table, tmp_path):
    store = open_or_build(table, StoreRequest(500), tmp_path / "cache")
    assert np.array_equal(store.read(1), np.asarray(Image.open(table["image_path"][1])))


def test_masks_lie_over_their_images(table, tmp_path):
    store = open_or_build(table, StoreRequest(500, masks=True), tmp_path / "cache")
    assert np.array_equal(store.read(0, "masks") > 0, store.read(0)[..., 0] > 127)


def test_the_second_opening_builds_nothing(table, tmp_path):
    first = open_or_build(table, StoreRequest(40), tmp_path / "cache")
    stamp = (first.folder / "pixels.bin").stat().st_mtime_ns
    calls = []
    second = open_or_build(table, StoreRequest(40), tmp_path / "cache", lambda *counts: calls.append(counts))
    assert (second.folder / "pixels.bin").stat().st_mtime_ns == stamp
    assert calls == []


def test_a_changed_file_is_decoded_again(table, tmp_path):
    first = open_or_build(table, StoreRequest(40), tmp_path / "cache")
    Image.new("RGB", (60, 60), "red").save(table["image_path"][0])
    second = open_or_build(table, StoreRequest(40), tmp_path / "cache")
    assert second.folder != first.folder
    assert (second.read(0) == (255, 0, 0)).all()


def test_the_fingerprint_of_an_image_does_not_depend_on_the_size(table, tmp_path):
    small, large = (open_or_build(table, StoreRequest(size), tmp_path / "cache") for size in (20, 50))
    ids = table["image_id"]
    pd.testing.assert_frame_equal(small.fingerprints(ids), large.fingerprints(ids))
    backwards = ids[::-1].reset_index(drop=True)
    assert list(small.fingerprints(backwards)["sha256"]) == list(small.fingerprints(ids)["sha256"])[::-1]


def test_an_image_that_the_store_does_not_have_is_refused(table, tmp_path):
    store = open_or_build(table, StoreRequest(40), tmp_path / "cache")
    with pytest.raises(DataError, match="i7"):
        store.rows(pd.Series(["i1", "i7"]))


def test_what_cannot_be_decoded_is_listed_and_the_rest_is_there(table, tmp_path):
    Path(table["image_path"][1]).write_bytes(b"broken")
    store = open_or_build(table, StoreRequest(40), tmp_path / "cache")
    assert list(store.errors) == ["i1"]
    assert "is a text file" in store.errors["i1"]
    assert store.read(2).shape == (30, 30, 3)


def test_a_missing_mask_is_an_error_of_that_image(table, tmp_path):
    table.loc[0, "mask_path"] = None
    store = open_or_build(table, StoreRequest(40, masks=True), tmp_path / "cache")
    assert "no lesion mask" in store.errors["i0"]


def test_a_mask_that_is_empty_or_lies_on_its_side_is_an_error_of_that_image(table, tmp_path):
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(table["mask_path"][0])
    turned = np.asarray(Image.open(table["mask_path"][1])).T
    Image.fromarray(np.ascontiguousarray(turned)).save(table["mask_path"][1])
    store = open_or_build(table, StoreRequest(40, masks=True), tmp_path / "cache")
    assert sorted(store.errors) == ["i0", "i1"]
    assert "a lesion in the mask" in store.errors["i0"]
    assert "got 80 x 60" in store.errors["i1"]
    assert "turn the mask too" in store.errors["i1"]


def lengthen(file):
    file.write_bytes(file.read_bytes() + b"x")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("pixels.bin", lengthen),
        ("pixels.bin", Path.unlink),
        ("index.parquet", Path.unlink),
        ("meta.json", lambda file: file.write_text("{}")),
    ],
)
def test_a_damaged_store_is_refused(table, tmp_path, name, damage):
    folder = open_or_build(table, StoreRequest(40), tmp_path / "cache").folder
    damage(folder / name)
    with pytest.raises(DataError, match="delete that folder"):
        ImageStore(folder)


class KilledError(Exception):
    pass


@pytest.fixture
def many(table, monkeypatch):
    """The table four times over, and a builder that notes what it has after every two images."""
    monkeypatch.setattr(store_builder, "CHUNK", 2)
    repeated = pd.concat([table.assign(image_id=table["image_id"] + f"_{copy}") for copy in range(4)])
    return repeated.reset_index(drop=True)


def kill_after(images):
    def progress(done, total):
        if done == images:
            raise KilledError

    return progress


@pytest.mark.parametrize(("images", "from_files"), [(1, False), (2, False), (7, False), (12, False), (7, True)])
def test_a_store_whose_building_was_killed_is_gone_on_with(many, tmp_path, monkeypatch, images, from_files):
    request = StoreRequest(40, masks=True, from_files=from_files)
    whole = open_or_build(many, request, tmp_path / "whole").folder
    with pytest.raises(KilledError):
        open_or_build(many, request, tmp_path / "cache", kill_after(images))
    decoded = []
    read = store_builder.read_bytes
    monkeypatch.setattr(store_builder, "read_bytes", lambda path: decoded.append(path) or read(path))
    again = open_or_build(many, request, tmp_path / "cache").folder
    assert len(decoded) == 12 - (images - 1) // 2 * 2
    assert again.name == whole.name
    assert {path.name for path in again.iterdir()} == {path.name for path in whole.iterdir()}
    assert (again / "pixels.bin").exists() is not from_files
    for name in ("masks.bin", "meta.json", *(() if from_files else ("pixels.bin",))):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    pd.testing.assert_frame_equal(pd.read_parquet(again / "index.parquet"), pd.read_parquet(whole / "index.parquet"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_its_folder_and_what_is_decoded_is_used_afterwards(many, tmp_path, monkeypatch, number):
    with monkeypatch.context() as full:
        written = []
        write = store_builder._write

        def refuses(image_id, *others):
            written.append(image_id)
            if len(written) == 8:
                raise OSError(number, os.strerror(number))
            return write(image_id, *others)

        full.setattr(store_builder, "_write", refuses)
        with pytest.raises(ConfigError, match=rf"below {tmp_path / 'cache'}, .* free some, or set paths.data_cache="):
            open_or_build(many, StoreRequest(40), tmp_path / "cache")
    decoded = []
    read = store_builder.read_bytes
    monkeypatch.setattr(store_builder, "read_bytes", lambda path: decoded.append(path) or read(path))
    assert not open_or_build(many, StoreRequest(40), tmp_path / "cache").errors
    assert len(decoded) == 12 - 6


@pytest.mark.parametrize("damage", ["note_000001.parquet", "pixels.bin"])
def test_what_a_crash_left_damaged_is_decoded_again(many, tmp_path, damage):
    whole = open_or_build(many, StoreRequest(40), tmp_path / "whole").folder
    with pytest.raises(KilledError):
        open_or_build(many, StoreRequest(40), tmp_path / "cache", kill_after(9))
    (building,) = (tmp_path / "cache").glob("building_*/")
    (building / damage).write_bytes((building / damage).read_bytes()[:1000])
    again = open_or_build(many, StoreRequest(40), tmp_path / "cache").folder
    assert (again / "pixels.bin").read_bytes() == (whole / "pixels.bin").read_bytes()


def _build(arguments):
    table, cache = arguments
    return open_or_build(table, StoreRequest(40), cache).read(0).sum()


def test_processes_that_start_at_once_share_one_store(table, tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        sums = pool.map(_build, [(table, tmp_path / "cache")] * 4)
    assert len(set(sums)) == 1
    assert len(list((tmp_path / "cache").glob("store_*/meta.json"))) == 1
    assert not list((tmp_path / "cache").glob("building_*"))


def test_pictures_of_unknown_depth_are_errors_and_never_black(table, tmp_path):
    values = np.linspace(0, 1, 40 * 60).reshape(40, 60)
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray((values * 4095).astype(np.uint16)).save(tmp_path / "twelve.png")
    table.loc[0, "image_path"] = str(tmp_path / "float.tiff")
    table.loc[1, "image_path"] = str(tmp_path / "twelve.png")
    store = open_or_build(table, StoreRequest(40), tmp_path / "cache")
    assert sorted(store.errors) == ["i0", "i1"]
    assert all("declares which value is white" in error for error in store.errors.values())


@pytest.fixture
def photographs(table, tmp_path):
    """The table with large JPEG photographs in place of its PNG files, and masks of their size; each is also a clinical
    photograph.
    """
    rng = np.random.default_rng(1)
    for number, (height, width) in enumerate([(300, 401), (222, 180), (60, 70)]):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        path = tmp_path / "images" / f"{number}.jpg"
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=95)
        mask = Image.open(table.loc[number, "mask_path"])
        mask.resize((width, height), Image.Resampling.NEAREST).save(table.loc[number, "mask_path"])
        table.loc[number, "image_path"] = str(path)
    return table.assign(clinical_path=table["image_path"][::-1].to_numpy())


def test_photographs_that_stay_in_their_files_have_the_shapes_and_nearly_the_pixels_of_a_store(photographs, tmp_path):
    options = {"masks": True, "clinical": True}
    kept = open_or_build(photographs, StoreRequest(40, **options), tmp_path / "cache")
    files = open_or_build(photographs, StoreRequest(40, **options, from_files=True), tmp_path / "cache")
    assert {path.name for path in files.folder.iterdir()} == {"index.parquet", "masks.bin", "meta.json"}
    assert (files.decodes, kept.decodes) == (True, False)
    ids = photographs["image_id"]
    pd.testing.assert_frame_equal(files.fingerprints(ids), kept.fingerprints(ids))
    pd.testing.assert_frame_equal(files.companion_hashes(ids), kept.companion_hashes(ids))
    assert files.extent(files.rows(ids)) == kept.extent(kept.rows(ids))
    copied = pickle.loads(pickle.dumps(files))
    for row in range(3):
        assert np.array_equal(files.read(row, "masks"), kept.read(row, "masks"))
        for plane in ("pixels", "clinical"):
            shown, expected = copied.read(row, plane), kept.read(row, plane)
            assert shown.shape == expected.shape
            assert np.abs(shown.astype(int) - expected).mean() < 3
    assert np.array_equal(files.read(2), kept.read(2))  # too small to be reduced


def test_a_photograph_that_vanished_from_its_file_is_an_error(photographs, tmp_path):
    store = open_or_build(photographs, StoreRequest(40, from_files=True), tmp_path / "cache")
    Path(photographs["image_path"][0]).unlink()
    with pytest.raises(DataError, match=r"0\.jpg"):
        store.read(0)


def test_what_cannot_be_decoded_is_listed_without_a_store_too(photographs, tmp_path):
    whole = Path(photographs["image_path"][1])
    whole.write_bytes(whole.read_bytes()[:3000])
    store = open_or_build(photographs, StoreRequest(40, from_files=True), tmp_path / "cache")
    assert list(store.errors) == ["i1"]
