import pickle

import cv2
import numpy as np
import pandas as pd
import pytest

from lesion_exp.data.store import open_or_build
from lesion_exp.data.store_builder import StoreRequest
from lesion_exp.verbs.shortcuts.perturbations import CONTROL, INSERTIONS, PAINTED, PLAIN, ChangedStore


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three images of 48 x 64 pixels with a lesion and its mask."""
    folder = tmp_path_factory.mktemp("images")
    rows = []
    for number in range(3):
        image = np.full((48, 64, 3), (200, 170, 150), np.uint8)
        mask = np.zeros((48, 64), np.uint8)
        cv2.circle(image, (24 + 4 * number, 24), 9, (90, 60, 40), -1)
        cv2.circle(mask, (24 + 4 * number, 24), 9, 255, -1)
        cv2.imwrite(str(folder / f"{number}.png"), image[:, :, ::-1])
        cv2.imwrite(str(folder / f"{number}_mask.png"), mask)
        rows.append((f"img{number}", str(folder / f"{number}.png"), str(folder / f"{number}_mask.png")))
    table = pd.DataFrame(rows, columns=["image_id", "image_path", "mask_path"])
    return table, open_or_build(table, StoreRequest(48, masks=True), folder / "cache")


def changed(files, change, fit="squash", seed=0):
    table, store = files
    return ChangedStore(store, change, fit, dict(zip(table["image_id"], table["mask_path"], strict=True)), seed)


@pytest.mark.parametrize("change", INSERTIONS)
def test_what_is_drawn_is_a_function_of_image_and_seed(files, change):
    _table, store = files
    first = [changed(files, change).read(row) for row in range(3)]
    again = [pickle.loads(pickle.dumps(changed(files, change))).read(row) for row in (2, 1, 0)][::-1]
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert all(not np.array_equal(one, store.read(row)) for row, one in enumerate(first))
    assert not np.array_equal(changed(files, change, seed=1).read(0), first[0])
    lesion = np.s_[20:28, 20:28]
    if change not in {"hair", "ink"}:  # which may lie over the lesion
        assert np.abs(first[0][lesion].astype(int) - store.read(0)[lesion]).max() < 30


def test_the_control_is_the_mirror_image_with_its_mask(files):
    _, store = files
    control = changed(files, CONTROL)
    for plane in ("pixels", "masks"):
        assert np.array_equal(control.read(1, plane), store.read(1, plane)[:, ::-1])
        assert np.array_equal(changed(files, PLAIN).read(1, plane), store.read(1, plane))


def test_the_lesion_is_painted_out_by_its_mask(files):
    found = changed(files, PAINTED).read(2)
    assert found.min() > 140
    assert np.array_equal(changed(files, PAINTED).read(2, "masks"), files[1].read(2, "masks"))


def test_a_network_that_sees_the_middle_square_gets_its_artefacts_there(files):
    _, store = files
    assert np.array_equal(changed(files, PLAIN, fit="crop").read(0), store.read(0)[:, 8:56])
    for seed in range(8):  # whichever edge the ruler is drawn at
        ruler = changed(files, "ruler", fit="crop", seed=seed).read(0)
        assert ruler.shape == (48, 48, 3)
        assert (ruler != store.read(0)[:, 8:56]).any()
    assert changed(files, PAINTED, fit="crop").read(0).min() > 140


def test_what_is_drawn_lies_within_what_evaluation_shows(files):
    table, store = files
    masks = dict(zip(table["image_id"], table["mask_path"], strict=True))
    for change in INSERTIONS:
        difference = ChangedStore(store, change, "crop", masks, 0, 0.5).read(0) != store.read(0)[:, 8:56]
        assert difference[12:36, 12:36].any()
        difference[12:36, 12:36] = False
        assert not difference.any()


@pytest.fixture(scope="module")
def pairs(files, tmp_path_factory):
    """The same images, each with a clinical photograph of 64 x 48 pixels."""
    folder = tmp_path_factory.mktemp("pairs")
    table = files[0]
    close_ups = []
    for number in range(len(table)):
        image = np.full((64, 48, 3), (190, 150, 130), np.uint8)
        cv2.circle(image, (24, 20 + 8 * number), 9, (80, 50, 40), -1)
        close_ups.append(str(folder / f"{number}.png"))
        cv2.imwrite(close_ups[-1], image[:, :, ::-1])
    table = table.assign(clinical_path=close_ups)
    return table, open_or_build(table, StoreRequest(48, clinical=True), folder / "cache")


@pytest.mark.parametrize("change", [*INSERTIONS, CONTROL])
def test_both_photographs_of_a_lesion_are_changed(pairs, change):
    _, store = pairs
    made = changed(pairs, change)
    for row in range(3):
        for plane in ("pixels", "clinical"):
            assert not np.array_equal(made.read(row, plane), store.read(row, plane))
        again = changed(pairs, change).read(row, "clinical")
        assert np.array_equal(made.read(row, "clinical"), again)
    assert np.array_equal(changed(pairs, PLAIN).read(0, "clinical"), store.read(0, "clinical"))


def test_nothing_of_a_lesion_is_left_in_a_clinical_photograph_without_mask(pairs):
    _, store = pairs
    for row in range(3):
        found = changed(pairs, PAINTED).read(row, "clinical")
        assert found.shape == (64, 48, 3)
        assert np.ptp(found.reshape(-1, 3), axis=0).max() == 0
        assert found.min() > store.read(row, "clinical").min() + 20
