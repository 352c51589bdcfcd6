"""The split of the real HAM10000, and what the popular splits of it leak (skipped where the data are absent)."""

import os
from pathlib import Path

import numpy as np
import pytest

from lesion_exp.dataset.ham10000 import read_ham10000
from lesion_exp.fingerprint import fingerprint
from lesion_exp.image_file import content_hash, decode, read_bytes
from lesion_exp.split.audit import audit
from lesion_exp.split.by_image import ByImage
from lesion_exp.split.grouped import Grouped
from lesion_exp.split.groups import assign_groups, near_duplicate_pairs
from lesion_exp.split.kfold import KFold
from lesion_exp.split.resample_then_split import ResampleThenSplit

pytestmark = pytest.mark.slow
REAL_DATA = Path(os.environ.get("LESION_EXP_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}
NO_VAL = {"train": 0.849, "val": 0.001, "test": 0.15}
THRESHOLD = 0.985


@pytest.fixture(scope="module")
def ham10000():
    root = REAL_DATA / "ham10000"
    if not root.is_dir():
        pytest.skip(f"needs the real HAM10000 in {root}; set LESION_EXP_REAL_DATA to the folder above it")
    table = read_ham10000(str(root), ["train"])
    hashes, prints = [], []
    for locator in table["image_path"]:
        encoded = read_bytes(locator)
        hashes.append(content_hash(encoded))
        prints.append(fingerprint(decode(encoded)))
    table = table.assign(
        sha256=hashes,
        phash=np.array([number for number, _ in prints], np.uint64),
        thumbnail=[small for _, small in prints],
    )
    return table.assign(group=assign_groups(table, THRESHOLD))


def test_pairs_are_photographs_of_one_lesion_but_for_the_one_known_exception(ham10000):
    pairs = near_duplicate_pairs(ham10000, THRESHOLD)
    lesion, image = ham10000["lesion_id"].to_numpy(), ham10000["image_id"].to_numpy()
    across = pairs[lesion[pairs["first"]] != lesion[pairs["second"]]]
    assert 90 <= len(pairs) <= 120
    assert [{image[a], image[b]} for a, b in zip(across["first"], across["second"], strict=True)] == [
        {"ISIC_0030074", "ISIC_0025226"}
    ]


def test_nothing_crosses_in_a_grouped_split(ham10000):
    for splitter in (Grouped(0, RATIOS), KFold(0, 5, 3, 0.15)):
        result = audit(splitter.split(ham10000), THRESHOLD)
        assert result.passed
        assert result.warnings == []
        assert all(abs(shift) < 0.002 for part in result.prevalence_shift.values() for shift in part.values())


def test_image_by_image_two_fifths_of_the_test_images_have_a_sibling_in_train(ham10000):
    shares = [
        audit(ByImage(seed, NO_VAL).split(ham10000), THRESHOLD).test_rows_with_lesion_in_train for seed in range(3)
    ]
    for name, known in {"all": 0.40, "mel": 0.72, "df": 0.61, "bcc": 0.60, "nv": 0.31}.items():
        few = 0.15 if name == "df" else 0.05  # 17 images of df
        assert np.mean([share[name] for share in shares]) == pytest.approx(known, abs=few)


def test_resampled_first_most_test_rows_were_trained_on(ham10000):
    result = audit(ResampleThenSplit(0, RATIOS, 6705).split(ham10000), THRESHOLD)
    assert result.test_rows_with_image_in_train["all"] == pytest.approx(0.93, abs=0.01)
    assert result.parts["test"]["counts"]["df"] == pytest.approx(1006, abs=1)
