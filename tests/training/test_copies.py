"""The split with `split.near_duplicates=features`, of which cropped copies stay with their originals."""

import cv2
import numpy as np
import pytest

from lesion_exp.config.compose import compose
from lesion_exp.config.freeze import freeze
from lesion_exp.split.groups import COPY_ID
from lesion_exp.training.data import load_data, split_data


def paint(path, label, place):
    rng = np.random.default_rng([len(label), place])
    small = rng.integers(60, 200, (20, 27, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(small, (200, 150), interpolation=cv2.INTER_CUBIC))


@pytest.fixture
def folder(tmp_path):
    """Two classes of ten images; the last one of each is a crop of the first."""
    for label in ("mel", "nv"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for place in range(10):
            paint(tmp_path / "data" / label / f"{place}.png", label, place)
        image = cv2.imread(str(tmp_path / "data" / label / "0.png"))
        cv2.imwrite(str(tmp_path / "data" / label / "9.png"), cv2.resize(image[30:, 40:], (200, 150)))
    return tmp_path / "data"


def job(folder, *words):
    return freeze(compose(["dataset=folder", f"dataset.root={folder}", *words], root=folder.parent))


def test_a_cropped_copy_stays_with_its_original_and_old_hashes_stay(folder):
    plain, wanted = job(folder), job(folder, "split.near_duplicates=features")
    assert plain.job_hash != wanted.job_hash
    before = split_data(plain.config, load_data(plain.config))
    assert COPY_ID not in before.table
    after = split_data(wanted.config, load_data(wanted.config))
    table = after.table.set_index("image_id")
    for label in ("mel", "nv"):
        pair = table.loc[[f"{label}/0", f"{label}/9"]]
        assert pair[COPY_ID].tolist() == [f"{label}/0"] * 2
        assert pair["split"].nunique() == pair["group"].nunique() == 1
    assert table[COPY_ID].notna().sum() == 4
    assert after.audit.crossings["copies"].count == 0
    assert before.table.groupby("group").size().max() == 1
