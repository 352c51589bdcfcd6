from types import SimpleNamespace

import numpy as np
import pandas as pd
from PIL import Image

from lesion_exp.data.store import open_or_build
from lesion_exp.data.store_builder import StoreRequest
from lesion_exp.verbs.explain.explained_part import PartImages


def restored(rows, store):
    """A stand-in for a network that sees whole images."""
    pipeline = SimpleNamespace(evaluate=lambda image, mask: (image, mask))
    dataset = SimpleNamespace(
        store=store, rows=store.rows(rows["image_id"]), options=SimpleNamespace(mask="none"), pipeline=pipeline
    )
    return SimpleNamespace(data=lambda *_: SimpleNamespace(dataset=lambda _: dataset))


def test_masks_that_cannot_be_used_count_as_none_and_are_named_once(tmp_path, caplog):
    lesion = np.zeros((48, 64), np.uint8)
    lesion[16:32, 16:32] = 255
    dark = (lesion > 0) * (1 + np.eye(48, 64, dtype=np.uint8))  # of two values
    masks = {"a": lesion, "b": dark, "c": lesion.T, "d": lesion * 0}
    for name, mask in masks.items():
        Image.new("RGB", (64, 48), (200, 170, 150)).save(tmp_path / f"{name}.png")
        Image.fromarray(np.ascontiguousarray(mask)).save(tmp_path / f"{name}_mask.png")
    rows = pd.DataFrame(
        [(name, str(tmp_path / f"{name}.png"), str(tmp_path / f"{name}_mask.png")) for name in masks],
        columns=["image_id", "image_path", "mask_path"],
    )
    store = open_or_build(rows, StoreRequest(48), tmp_path / "cache")
    images = PartImages(restored(rows, store), rows, store, rows)
    found = [images.mask(position) for position in range(4)]
    assert images.has_masks
    assert images.mask_notes == ()
    assert np.array_equal(found[0], lesion > 0)
    assert found[1:] == [None] * 3
    assert caplog.text.count("3 of 4 lesion masks cannot be used") == 1
    assert "b: expected a mask with a white lesion on black" in caplog.text
    bare = PartImages(restored(rows, store), rows.assign(mask_path=None), store, rows)
    assert (bare.has_masks, bare.mask(0), bare.mask_notes) == (False, None, ())


def test_what_is_assumed_of_the_masks_of_squashed_copies_is_noted(tmp_path):
    lesion = np.zeros((48, 64), np.uint8)
    lesion[16:32, 16:32] = 255
    Image.new("RGB", (48, 48), (200, 170, 150)).save(tmp_path / "a.png")
    Image.fromarray(lesion).save(tmp_path / "a_mask.png")
    rows = pd.DataFrame(
        {"image_id": ["a"], "image_path": [str(tmp_path / "a.png")], "mask_path": [str(tmp_path / "a_mask.png")]}
    )
    store = open_or_build(rows, StoreRequest(48), tmp_path / "cache")
    (note,) = PartImages(restored(rows, store), rows, store, rows).mask_notes
    assert note.startswith("all images have 48 x 48 pixels, and all masks 64 x 48")
