import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesion_exp.data.data_fingerprint import PARTS, DataFingerprint, part_differences
from lesion_exp.data.store import open_or_build
from lesion_exp.data.store_builder import StoreRequest
from lesion_exp.dataset.table import standardize

ALL = StoreRequest(32, masks=True, clinical=True)


def picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 40, 3), value, np.uint8)).save(path)
    return str(path)


@pytest.fixture
def frame(tmp_path):
    """Four images of three lesions with everything that training may read."""
    return pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(4)],
            "image_path": [picture(tmp_path / f"i{k}.png", 10 * k) for k in range(4)],
            "mask_path": [picture(tmp_path / "masks" / f"i{k}.png", 255) for k in range(4)],
            "clinical_path": [picture(tmp_path / "clinical" / f"i{k}.png", 100 + k) for k in range(4)],
            "label": ["nv", "nv", "mel", "mel"],
            "lesion_id": ["a", "a", "b", "c"],
            "patient_id": ["p", "p", "q", None],
            "age": [50.0, 50.0, 35.0, None],
            "sex": ["male", "male", "female", None],
            "site": ["back", "back", "face", "face"],
            "official_split": ["train", "train", "val", "test"],
            "remark": ["", "", "x", ""],
        }
    )


@pytest.fixture
def of(tmp_path):
    def make(frame, request=ALL, split_path=None):
        table = standardize(frame, "mine")
        store = open_or_build(table, request, tmp_path / "cache")
        hashes = store.fingerprints(table["image_id"])
        return DataFingerprint.of(pd.concat([table, hashes], axis=1), store, split_path)

    return make


@pytest.mark.parametrize(
    ("column", "value", "part"),
    [
        ("label", "bcc", "labels"),
        ("lesion_id", "d", "ids"),
        ("patient_id", "p", "ids"),
        ("age", 51.0, "metadata"),
        ("sex", "male", "metadata"),
        ("site", "hand", "metadata"),
        ("official_split", "train", "split"),
    ],
)
def test_an_edited_value_changes_the_part_that_holds_it_and_no_other(frame, of, column, value, part):
    before = of(frame)
    frame.loc[3, column] = value
    after = of(frame)
    assert part_differences(before.parts, after.parts) == [PARTS[part]]
    assert after.differences(before.tags()) == [PARTS[part]]
    assert after.total != before.total


@pytest.mark.parametrize(("column", "part"), [("image", "images"), ("mask", "masks"), ("clinical", "clinical")])
def test_an_edited_picture_changes_the_part_that_holds_it(tmp_path, frame, of, column, part):
    before = of(frame)
    picture(tmp_path / {"image": "", "mask": "masks", "clinical": "clinical"}[column] / "i2.png", 77)
    assert of(frame).differences(before.tags()) == [PARTS[part]]


def test_what_training_does_not_read_changes_nothing(tmp_path, frame, of):
    plain = StoreRequest(32)
    before = of(frame, plain)
    assert not {"masks", "clinical"} & before.parts.keys()
    picture(tmp_path / "masks" / "i2.png", 77)
    frame["remark"] = "edited"
    shuffled = frame.sample(frac=1, random_state=1)
    assert of(shuffled, plain) == before
    assert before.differences(before.tags()) == []


def test_the_file_of_the_split_counts_by_its_content(tmp_path, frame, of):
    for name, text in (
        ("a.csv", "image_id,split\n"),
        ("b.csv", "image_id,split\n"),
        ("c.csv", "image_id,split,fold\n"),
    ):
        (tmp_path / name).write_text(text)
    first, copy, other = (of(frame, split_path=str(tmp_path / f"{name}.csv")) for name in "abc")
    assert first == copy
    assert other.differences(first.tags()) == [PARTS["split"]]


def test_a_run_that_recorded_no_parts_is_compared_by_what_it_recorded(frame, of):
    before = of(frame)
    recorded = {"dataset_fingerprint": before.before}
    assert before.differences(recorded) == []
    frame.loc[0, "age"] = 20.0
    assert of(frame).differences(recorded) == [], "ages were not recorded then"
    frame.loc[0, "label"] = "mel"
    assert of(frame).differences(recorded) == ["data"]
