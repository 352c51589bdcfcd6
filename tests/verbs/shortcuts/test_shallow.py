import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesion_exp.data.store import open_or_build
from lesion_exp.data.store_builder import StoreRequest
from lesion_exp.evaluation.metrics import metrics
from lesion_exp.verbs.shortcuts.shallow import (
    file_features,
    majority_predictions,
    metadata_features,
    rim_features,
    shallow_predictions,
)

CLASSES = ("bkl", "mel", "nv")


def table_of(size=600, *, telling):
    """A split table; with `telling`, the site and a missing age give the label away."""
    rng = np.random.default_rng(0)
    label = rng.choice(CLASSES, size, p=[0.2, 0.1, 0.7])
    told = label if telling else rng.permutation(label)
    names = [f"img{place}" for place in range(size)]
    return pd.DataFrame(
        {
            "row_id": names,
            "image_id": names,
            "lesion_id": names,
            "patient_id": None,
            "label": label,
            "age": np.where(told == "mel", np.nan, 50.0),
            "sex": rng.choice(["female", "male", "unknown"], size),
            "site": np.where(told == "bkl", "unknown", "back"),
            "source": "made",
            "split": rng.choice(["train", "test"], size, p=[0.6, 0.4]),
        }
    )


@pytest.mark.parametrize(("telling", "low", "high"), [(True, 0.99, 1.0), (False, 0.2, 0.45)])
def test_missing_values_are_found_out_where_they_tell_the_label_and_only_there(telling, low, high):
    table = table_of(telling=telling)
    found = shallow_predictions(metadata_features(table), table, "test", CLASSES)
    assert len(found) == (table["split"] == "test").sum()
    assert low <= metrics(found)["balanced_accuracy"] <= high
    pd.testing.assert_frame_equal(found, shallow_predictions(metadata_features(table), table, "test", CLASSES))


def test_columns_without_a_value_in_the_training_part_are_no_features():
    """As the age in data without metadata, or one that the test part alone has."""
    table = table_of(telling=True)
    bare = table.assign(age=np.nan, sex="unknown")
    for found in (bare, bare.assign(age=np.where(bare["split"] == "test", 50.0, np.nan))):
        assert (
            len(shallow_predictions(metadata_features(found), found, "test", CLASSES))
            == (table["split"] == "test").sum()
        )


def test_columns_without_any_value_are_left_out():
    table = table_of(telling=False).assign(age=float("nan"), sex="unknown", site="unknown")
    found = shallow_predictions(metadata_features(table), table, "test", CLASSES)
    assert found["p_nv"].nunique() == 1, "nothing is known"


def test_the_label_is_no_feature():
    table = table_of(telling=False)
    other = table.assign(label="mel", image_id="x", row_id="y")
    pd.testing.assert_frame_equal(metadata_features(table), metadata_features(other))


def test_a_class_that_training_does_not_hold_has_probability_0():
    table = table_of(telling=True)
    table = table[(table["split"] == "test") | (table["label"] != "bkl")].reset_index(drop=True)
    found = shallow_predictions(metadata_features(table), table, "test", CLASSES)
    assert found["p_bkl"].max() == 0


def test_the_majority_is_that_of_the_training_part():
    table = table_of(telling=False)
    found = majority_predictions(table, "test", CLASSES)
    assert set(found["prediction"]) == {"nv"}
    assert metrics(found)["balanced_accuracy"] == pytest.approx(1 / 3)
    assert metrics(found)["auroc_macro"] == pytest.approx(0.5)


def test_border_pixels_and_files_are_described_without_the_middle(tmp_path):
    rows = []
    for number, middle in enumerate((30, 220)):
        image = np.full((50, 80, 3), 128, np.uint8)
        image[:10] = (250, 0, 0)
        image[12:38, 12:68] = middle
        path = tmp_path / f"{number}.png"
        Image.fromarray(image).save(path)
        rows.append((f"img{number}", str(path), None))
    table = pd.DataFrame(rows, columns=["image_id", "image_path", "mask_path"])
    table = pd.concat([table, table.iloc[[0]]], ignore_index=True)  # a copy, as resampling makes them
    store = open_or_build(table.iloc[:2], StoreRequest(50), tmp_path / "cache")
    rim = rim_features(table, store)
    pd.testing.assert_series_equal(rim.loc[0], rim.loc[1], check_names=False)
    assert rim.loc[0, "top_red"] == 250
    assert rim.loc[0, "bottom_left_green"] == 128
    files = file_features(table)
    assert list(files["width"]) == [80, 80, 80]
    assert list(files["height"]) == [50, 50, 50]
    assert files.loc[2, "num_bytes"] == (tmp_path / "0.png").stat().st_size
    assert files.loc[0, "bytes_per_pixel"] == files.loc[0, "num_bytes"] / 4000


def test_clinical_photographs_have_their_own_borders_and_files(tmp_path):
    for name, (colour, size) in {"derm": (40, (60, 50)), "close": (200, (90, 50))}.items():
        Image.new("RGB", size, (colour, colour, colour)).save(tmp_path / f"{name}.png")
    places = {
        f"{name}_path": str(tmp_path / f"{file}.png") for name, file in (("image", "derm"), ("clinical", "close"))
    }
    table = pd.DataFrame([{"image_id": "a", "mask_path": None, **places}])
    store = open_or_build(table, StoreRequest(50, clinical=True), tmp_path / "cache")
    assert rim_features(table, store).loc[0, "top_red"] == 40
    assert rim_features(table, store, "clinical").loc[0, "top_red"] == 200
    assert file_features(table).loc[0, "width"] == 60
    assert file_features(table, "clinical_path").loc[0, "width"] == 90
