"""From files to the words of the audit: ids that are none, and ids and pictures that contradict each other."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lesion_exp.config.compose import compose
from lesion_exp.training.data import SplitData, load_data, split_data
from tests.tiny import TINY

NUM_IMAGES = 60


def _write(folder: Path) -> None:
    """60 images in pairs of a lesion; half of the patients are -1; three contradictions are planted."""
    rng = np.random.default_rng(0)
    rows = ["image_id,label,lesion_id,patient_id,age,sex"]
    for number in range(NUM_IMAGES):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number:03d}.png")
        label, lesion = ("mel" if number % 4 < 2 else "nv"), number // 2
        patient = "-1" if number % 4 < 2 else f"P{lesion}"
        age, sex = ("999", "m") if number == 0 else ("50", "male")
        rows.append(f"{number:03d},{label},L{lesion},{patient},{age},{sex}")
    rows.append("005,nv,L9,,50,male")  # an image id with two labels
    rows[9] = rows[9].replace(",mel,", ",bcc,").replace(",nv,", ",bcc,")  # a lesion of bcc and of another class
    (folder / "021.png").write_bytes((folder / "023.png").read_bytes())  # 023 is nv, 021 is mel
    (folder / "t.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> SplitData:
    root = tmp_path_factory.mktemp("identities")
    data = root / "data"
    data.mkdir()
    _write(data)
    chosen = [override for override in TINY if not override.startswith(("experiment=", "dataset."))]
    config = compose(
        [
            *chosen,
            "dataset=csv",
            f"dataset.root={data}",
            "dataset.table=t.csv",
            "dataset.on_bad_image=skip",
        ],
        root=root,
    ).config
    return split_data(config, load_data(config))


def test_the_audit_tells_every_contradiction_with_cases(split: SplitData) -> None:
    words = " ".join(split.audit.summary().split())
    for text in (
        "patient_id of csv: these numbers count as missing, not as one id: '-1' of 30 rows (the other ids are not "
        "numbers)",
        "age of csv: 1 are outside 0 to 120 years and count as missing: '999' (1 rows)",
        "left out: 2 rows (image_id with several labels), for example 005: mel, nv",
        "1 lesion has images of several classes, though a lesion has one diagnosis; check lesion_id and the labels. "
        "For example L4 (bcc, mel)",
        "1 image occurs several times, byte by byte, with different labels, of which only one can be right; correct "
        "them, or leave files out by dataset.ignore. "
        "For example 021 (mel) = 023 (nv)",
    ):
        assert text in words
    assert "audit passed" in words
    assert set(split.table["sex"]) == {"male"}


def test_patients_that_are_none_are_no_group(split: SplitData) -> None:
    known = split.table["patient_id"].notna()
    assert known.sum() == 30
    assert split.table.loc[~known, "group"].nunique() > 10
    assert set(split.table.loc[~known, "split"]) == {"train", "val", "test"}


def test_warnings_are_in_the_log_as_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write(tmp_path)
    chosen = [override for override in TINY if not override.startswith(("experiment=", "dataset."))]
    named = [f"dataset.root={tmp_path}", "dataset.table=t.csv", "dataset.on_bad_image=skip"]
    with caplog.at_level(logging.WARNING):
        load_data(compose([*chosen, "dataset=csv", *named], root=tmp_path).config)
    assert "these numbers count as missing, not as one id: '-1' of 30 rows" in caplog.text
    assert "005: mel, nv" in caplog.text
