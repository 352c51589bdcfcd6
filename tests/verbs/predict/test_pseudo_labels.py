"""Thresholds of pseudo-labels, and the file that is written with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesion_exp.dataset.pseudo_labels import read_pseudo_labels
from lesion_exp.errors import ConfigError
from lesion_exp.verbs.predict.pseudo_labels import LEAST_IMAGES, smallest_threshold, thresholds_of, write_pseudo_labels
from lesion_exp.verbs.predict.request import PredictionRequest
from lesion_exp.verbs.predict.requested_images import RequestedImages, requested_images

FACTS = {"run_id": "r" * 32, "weights_hash": "w" * 16, "calibration": "none"}


def request(**keys):
    return PredictionRequest(source="x", output=Path("o.csv"), pseudo_labels=Path("p.csv"), **keys)


def by_definition(confidence, right, target):
    """The smallest threshold by trying all of them."""
    good = [
        limit for limit in confidence
        if (chosen := confidence >= limit).sum() >= LEAST_IMAGES and right[chosen].mean() >= target
    ]  # fmt: skip
    return min(good, default=None)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("target", [0.5, 0.8, 0.95, 1.0])
def test_the_smallest_threshold_is_the_one_of_the_definition(seed: int, target: float) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.3, 1.0, 60).round(1 if seed % 2 else 4)  # with and without equal ones
    right = rng.uniform(size=60) < confidence
    assert smallest_threshold(confidence, right, target) == by_definition(confidence, right, target)


def test_few_images_say_nothing_of_precision() -> None:
    assert smallest_threshold(np.full(9, 0.9), np.ones(9, dtype=bool), 0.5) is None
    assert smallest_threshold(np.zeros(0), np.zeros(0, dtype=bool), 0.5) is None


def test_a_number_is_for_all_classes_and_names_are_for_these_alone() -> None:
    classes = ("mel", "nv")
    assert thresholds_of(request(), None, None, classes) == {"mel": 0.9, "nv": 0.9}  # type: ignore[arg-type]
    assert thresholds_of(request(threshold=0.5), None, None, classes) == {"mel": 0.5, "nv": 0.5}  # type: ignore[arg-type]
    named = request(threshold={"mel": 0.95})
    assert thresholds_of(named, None, None, classes) == {"mel": 0.95, "nv": None}  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a class in threshold to be one of mel, nv"):
        thresholds_of(request(threshold={"bcc": 0.9}), None, None, classes)  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_the_file_has_the_sure_ones_with_their_origin(tmp_path: Path, ending: str) -> None:
    table = pd.DataFrame(
        {
            "image": ["d/a.png", "d/b.png", "d/c.png", "d/e.png"],
            "prediction": ["mel", "nv", "nv", None],
            "p_mel": [0.9, 0.2, 0.45, np.nan],
            "p_nv": [0.1, 0.8, 0.55, np.nan],
            "error": [None, None, None, "broken"],
        }
    )
    images = table[["image"]].assign(image_path=[str(tmp_path / name) for name in table["image"]])
    path = tmp_path / f"p{ending}"
    asked = RequestedImages(images, pd.DataFrame({"image_id": ["d/a", "d/b", "d/c", "d/e"]}))
    counts = write_pseudo_labels(path, table, asked, FACTS, {"mel": 0.9, "nv": 0.6})
    found = pd.read_csv(path) if ending == ".csv" else pd.read_parquet(path)
    assert counts == {"mel": 1, "nv": 1}
    assert found["image_id"].tolist() == ["d/a", "d/b"]
    assert found["image_path"].tolist() == ["d/a.png", "d/b.png"]
    assert found["label"].tolist() == ["mel", "nv"]
    assert found["confidence"].tolist() == pytest.approx([0.9, 0.8])
    assert found["threshold"].tolist() == pytest.approx([0.9, 0.6])
    assert set(found["run_id"]) == {"r" * 32}
    none = {"mel": None, "nv": 0.9}
    assert write_pseudo_labels(path, table, asked, FACTS, none) == {"mel": 0, "nv": 0}


def test_ids_and_metadata_of_a_csv_are_kept(tmp_path: Path) -> None:
    source = tmp_path / "cases.csv"
    source.write_text("image_path,image_id,patient_id,years\na.png,A,7,50\nb.png,,,60\n")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    table = pd.DataFrame({"prediction": ["mel", "mel"], "p_mel": [0.95, 0.99], "image": ["a.png", "b.png"]})
    asked = PredictionRequest(
        source=str(source), output=Path("o.csv"), pseudo_labels=Path("p.csv"), columns={"age": "years"}
    )
    write_pseudo_labels(tmp_path / "p.csv", table, requested_images(asked, (), {}), FACTS, {"mel": 0.9})
    found = pd.read_csv(tmp_path / "p.csv", dtype=str)
    assert found["image_id"].tolist() == ["A", "b"]
    assert found["patient_id"].fillna("").tolist() == ["7", ""]
    assert found["age"].tolist() == ["50", "60"]


def test_masks_and_clinical_photographs_of_a_csv_are_kept(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("image_path,segmentation,clinical_path\na.png,m.png,b.png\nb.png,,\n")
    for name in ("a.png", "b.png", "m.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    asked = PredictionRequest(
        source=str(tmp_path / "cases.csv"), output=Path("o.csv"), columns={"mask_path": "segmentation"}
    )
    table = pd.DataFrame({"prediction": ["mel", "mel"], "p_mel": [0.95, 0.99], "image": ["a.png", "b.png"]})
    write_pseudo_labels(tmp_path / "p.csv", table, requested_images(asked, (), {}), FACTS, {"mel": 0.9})
    found = pd.read_csv(tmp_path / "p.csv", dtype=str).fillna("")
    assert found["mask_path"].tolist() == ["m.png", ""]
    assert found["clinical_path"].tolist() == ["b.png", ""]
    assert read_pseudo_labels(tmp_path / "p.csv")["mask_path"].tolist() == [str(tmp_path / "m.png"), None]


@pytest.mark.parametrize("source", ["photographs", "photographs/*.png"])
def test_images_without_a_table_are_named_by_their_files(tmp_path: Path, monkeypatch, source: str) -> None:
    (tmp_path / "photographs").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photographs" / "a.png")
    monkeypatch.chdir(tmp_path)
    asked = PredictionRequest(source=source, output=Path("o.csv"))
    assert requested_images(asked, (), {}).known.to_dict("list") == {"image_id": ["photographs/a"]}
