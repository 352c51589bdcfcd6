import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lesion_exp.augmentation.pipeline import AugmentationPipeline
from lesion_exp.data.lesion_dataset import LesionDataset, Preparation, SampleOptions
from lesion_exp.data.lesion_masks import Squash, record_mask_findings, squash_of, usable_masks
from lesion_exp.data.store import open_or_build
from lesion_exp.data.store_builder import StoreRequest
from lesion_exp.dataset.findings import collected_findings
from lesion_exp.errors import DataError


def lesion(height, width):
    """A mask whose upper left quarter is the lesion."""
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2, : width // 2] = 255
    return mask


def save_photograph(path, height, width, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height), (200, 150, 120)).save(path, exif=exif)


@pytest.fixture
def made(tmp_path):
    """Writes images and masks of the given heights and widths, and returns their table."""

    def make(images, masks, orientations=(1, 1, 1)):
        rows = []
        for number, (image, mask, orientation) in enumerate(zip(images, masks, orientations, strict=True)):
            paths = [str(tmp_path / f"{number}{end}") for end in (".jpg", "_mask.png")]
            save_photograph(paths[0], *image, orientation)
            Image.fromarray(lesion(*mask)).save(paths[1])
            rows.append((f"i{number}", *paths))
        return pd.DataFrame(rows, columns=["image_id", "image_path", "mask_path"])

    return make


def findings_of(table, store):
    with collected_findings() as found:
        record_mask_findings(table, store)
    return [finding.text for finding in found]


def test_masks_of_squashed_copies_are_squashed_and_it_is_said(made, tmp_path):
    table = made([(64, 64)] * 3, [(45, 60)] * 3)
    store = open_or_build(table, StoreRequest(32, masks=True), tmp_path / "cache")
    assert store.errors == {}
    assert store.squash == Squash(images=(64, 64), masks=(60, 45))
    mask = store.read(0, "masks")
    assert mask.shape == (32, 32)
    assert mask[:15, :15].all()
    assert not mask[17:].any()
    assert not mask[:, 17:].any()
    (text,) = findings_of(table, store)
    assert "all images have 64 x 64 pixels, and all masks 60 x 45, which are other proportions" in text
    assert open_or_build(table, StoreRequest(32), tmp_path / "cache").squash is None


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ([(45, 60)] * 3, [(90, 120)] * 3),
        ([(45, 60)] * 3, [(60, 45)] * 3),
        ([(64, 64), (64, 64), (45, 60)], [(45, 60)] * 3),
        ([(64, 64)] * 3, [(45, 60), (45, 60), (60, 45)]),
        ([(45, 60), (45, 60), (64, 64)], [(45, 60)] * 3),
    ],
)
def test_other_sets_are_not_taken_for_squashed_copies(made, images, masks):
    assert squash_of(made(images, masks)) is None


def test_masks_that_photographs_turned_by_exif_may_not_fit_are_counted(made, tmp_path):
    """A turn by 180 degrees, and one by 90 degrees of a square photograph; the first mask is upright like its image."""
    table = made([(45, 60), (45, 60), (50, 50)], [(45, 60), (45, 60), (50, 50)], (1, 3, 6))
    store = open_or_build(table, StoreRequest(32, masks=True), tmp_path / "cache")
    assert store.turned_images() == ["i1", "i2"]
    (text,) = findings_of(table, store)
    assert "not turned: 2. The masks are right if they were drawn on the turned photographs" in text
    assert findings_of(table.iloc[:1], store) == []
    assert findings_of(table, open_or_build(table, StoreRequest(32), tmp_path / "cache")) == []
    drawn_upright = made([(45, 60)] * 3, [(60, 45)] * 3, (6, 8, 5))
    assert open_or_build(drawn_upright, StoreRequest(32, masks=True), tmp_path / "cache").turned_images() == []


def test_masks_that_cannot_be_used_are_left_out_counted_and_named(made, tmp_path, caplog):
    table = made([(45, 60)] * 4, [(45, 60), (45, 60), (60, 45), (90, 120)], (1,) * 4)
    Image.fromarray(np.zeros((45, 60), np.uint8)).save(table["mask_path"][1])
    store = open_or_build(table, StoreRequest(32), tmp_path / "cache")
    found = usable_masks(table, store, table)
    assert found.notes == ()
    assert found.places == {"i0": table["mask_path"][0], "i3": table["mask_path"][3]}
    assert "2 of 4 lesion masks cannot be used" in caplog.text
    assert "i1: expected a lesion in the mask" in caplog.text
    assert "i2: expected a mask of the proportions of its image" in caplog.text
    assert usable_masks(table.assign(mask_path=None), store, table).places == {}
    assert usable_masks(table.drop(columns="mask_path"), store, table).places == {}


def test_masks_of_squashed_copies_can_be_used_and_it_is_said(made, tmp_path, caplog):
    table = made([(64, 64)] * 3, [(45, 60)] * 3)
    for request in (StoreRequest(32), StoreRequest(32, masks=True)):  # a store with masks is told of when it is loaded
        store = open_or_build(table, request, tmp_path / "cache")
        caplog.clear()
        found = usable_masks(table.iloc[:1], store, table)
        assert list(found.places) == ["i0"]
        (note,) = found.notes
        assert "all images have 64 x 64 pixels, and all masks 60 x 45" in note
        assert (note in caplog.text) is not request.masks


def test_whether_images_are_squashed_copies_depends_on_all_of_them_not_on_those_of_a_part(made, tmp_path, caplog):
    table = made([(64, 64)] * 3, [(45, 60), (45, 60), (64, 64)])
    found = usable_masks(table.iloc[:2], open_or_build(table, StoreRequest(32), tmp_path / "cache"), table)
    assert (found.places, found.notes) == ({}, ())
    assert "2 of 2 lesion masks cannot be used" in caplog.text


@pytest.mark.parametrize("use", ["crop", "channel"])
def test_a_mask_of_a_squashed_copy_is_read_from_its_file_as_in_training(made, tmp_path, use):
    table = made([(64, 64)] * 3, [(45, 60)] * 3).assign(label="nv")
    store = open_or_build(table, StoreRequest(32, masks=True), tmp_path / "cache")
    pipeline = AugmentationPipeline(24, "squash", None, None, None, (0.5,) * 3, (0.2,) * 3)
    options = SampleOptions(mask=use)
    trained = LesionDataset(table, store, pipeline, ("nv",), options, training=False)[(0, 0)]["image"]
    card = json.loads(json.dumps(store.squash.to_dict()))
    preparation = Preparation(pipeline, options, 32, squash=Squash.from_dict(card))
    image, mask = table["image_path"][0], table["mask_path"][0]
    assert torch.equal(preparation.from_files(image, mask)["image"], trained)
    other = tmp_path / "other.png"
    Image.fromarray(lesion(90, 120)).save(other)
    for made_so, path in ((preparation, str(other)), (Preparation(pipeline, options, 32), mask)):
        with pytest.raises(DataError, match="expected a mask of the proportions of its image"):
            made_so.from_files(image, path)
