import pandas as pd
import pytest

from lesion_exp.errors import DataError
from lesion_exp.evaluation.challenge_format import FORMATS
from lesion_exp.verbs.predict.request import PredictionRequest
from lesion_exp.verbs.predict.requested_images import RequestedImages, requested_images
from lesion_exp.verbs.predict.submission import submission_ids, write_submission


def request_of(tmp_path, challenge, source="images"):
    return PredictionRequest(source=str(source), output=tmp_path / "new.csv", challenge=challenge)


def images_of(*names):
    return RequestedImages(pd.DataFrame({"image": list(names)}), pd.DataFrame({"image_id": list(names)}))


def test_images_have_their_names_without_folder_and_ending(tmp_path):
    asked = request_of(tmp_path, "isic2018")
    assert submission_ids(images_of("a/ISIC_1.jpg", "x.zip/ISIC_2.JPG", "ISIC_3.v2.png"), asked) == [
        "ISIC_1", "ISIC_2", "ISIC_3.v2",
    ]  # fmt: skip
    with pytest.raises(DataError, match="expected each image name once for format=isic2018"):
        submission_ids(images_of("a/ISIC_1.jpg", "b/ISIC_1.jpg"), asked)


def test_images_have_the_ids_of_the_csv(tmp_path):
    cases = tmp_path / "cases.csv"
    photos = ["photos/0001.jpg", "photos/0002.jpg"]
    ids = ["ISIC_0034524", "ISIC_0034525.jpg"]
    pd.DataFrame({"image_path": photos, "image_id": ids}).to_csv(cases, index=False)
    asked = request_of(tmp_path, "isic2018", cases)
    assert submission_ids(requested_images(asked, (), {}), asked) == ["ISIC_0034524", "ISIC_0034525"]
    pd.DataFrame({"image_path": photos, "image_id": "ISIC_1"}).to_csv(cases, index=False)
    with pytest.raises(DataError, match="ISIC_1\ncorrect the column image_id"):
        submission_ids(requested_images(asked, (), {}), asked)
    pd.DataFrame({"image_path": photos}).to_csv(cases, index=False)
    assert submission_ids(requested_images(asked, (), {}), asked) == ["0001", "0002"]


def test_lesions_are_named_by_the_csv_or_by_folders(tmp_path):
    assert submission_ids(images_of("in/IL_1/a.jpg", "in/IL_2/b.jpg"), request_of(tmp_path, "milk10k")) == [
        "IL_1", "IL_2",
    ]  # fmt: skip
    with pytest.raises(DataError, match="expected each lesion once for format=milk10k"):
        submission_ids(images_of("in/IL_1/a.jpg", "in/IL_1/b.jpg"), request_of(tmp_path, "milk10k"))
    with pytest.raises(DataError, match="expected the lesion of each image"):
        submission_ids(images_of("a.jpg"), request_of(tmp_path, "milk10k"))
    cases = tmp_path / "cases.csv"
    pd.DataFrame({"image_path": ["a.jpg", "b.jpg"], "lesion_id": ["IL_7", "IL_8"]}).to_csv(cases, index=False)
    asked = request_of(tmp_path, "milk10k", cases)
    assert submission_ids(requested_images(asked, (), {}), asked) == ["IL_7", "IL_8"]


def test_a_submission_has_the_images_with_a_prediction(tmp_path, caplog):
    probs = {"p_benign": [0.25, None, 1.0], "p_malignant": [0.75, None, 0.0]}
    table = pd.DataFrame({"image": ["a.jpg", "b.jpg", "c.jpg"], "prediction": ["malignant", None, "benign"], **probs})
    asked = request_of(tmp_path, "isic2024")
    path = write_submission(table, submission_ids(images_of(*table["image"]), asked), ("benign", "malignant"), asked)
    assert path.name == "new_isic2024.csv"
    assert path.read_text().splitlines() == ["isic_id,target", "a,0.75", "c,0.0"]
    assert "1 of 3 images have no prediction" in caplog.text
    path = write_submission(table[::2], ["a", "c"], ("benign", "malignant"), request_of(tmp_path, "isic2020"))
    assert list(pd.read_csv(path)) == ["image_name", *FORMATS["isic2020"].columns]


def test_classes_that_may_be_malignant_or_benign_are_named(tmp_path, caplog):
    table = pd.DataFrame({"image": ["a.jpg"], "prediction": ["unk"], "p_mel": [0.25], "p_nv": [0.25], "p_unk": [0.5]})
    path = write_submission(table, ["a"], ("mel", "nv", "unk"), request_of(tmp_path, "isic2020"))
    assert path.read_text().splitlines() == ["image_name,target", "a,0.25"]
    assert "unk may be malignant or benign, and count as not malignant" in caplog.text
