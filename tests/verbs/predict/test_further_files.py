import os
from pathlib import Path

import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.verbs.predict.further_files import check_further_files
from lesion_exp.verbs.predict.output_files import same_stem
from lesion_exp.verbs.predict.request import PredictionRequest


def request_of(tmp_path, pseudo=None, **options):
    path = None if pseudo is None else tmp_path / pseudo
    options = {"source": str(tmp_path), **options}
    return PredictionRequest(output=tmp_path / "new.csv", pseudo_labels=path, **options)


@pytest.mark.parametrize(
    ("pseudo", "options", "said"),
    [
        ("new.csv", {}, "another file than output= for pseudo_labels"),
        ("new_isic2018.csv", {"challenge": "isic2018"}, "another file than pseudo_labels for format"),
        ("same.parquet", {"features": Path("same.parquet")}, "another file than pseudo_labels for output_features"),
        ("new_to_label.csv", {"rank": "entropy"}, "another file than the images to label next for pseudo_labels"),
    ],
)
def test_two_files_of_a_prediction_are_not_the_same(tmp_path, monkeypatch, pseudo, options, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        check_further_files(request_of(tmp_path, pseudo, force=True, **options))
    check_further_files(request_of(tmp_path, "others.csv", **options))


@pytest.mark.parametrize(
    ("name", "key"), [("pseudo.csv", "pseudo_labels"), ("new_isic2018.csv", "format"), ("f.npz", "output_features")]
)
@pytest.mark.parametrize("plan", ["plan.json", "done.json", "of_a_member/plan.json"])
def test_only_what_a_stopped_prediction_wrote_itself_is_written_again(tmp_path, name, key, plan):
    (tmp_path / name).touch()
    asked = request_of(tmp_path, "pseudo.csv", challenge="isic2018", features=tmp_path / "f.npz")
    with pytest.raises(ConfigError, match=f"expected a new file for {key}.*force=true"):
        check_further_files(asked)
    check_further_files(request_of(tmp_path, "pseudo.csv", challenge="isic2018", force=True))
    begun = tmp_path / "new.csv.part" / plan
    begun.parent.mkdir(parents=True)
    begun.touch()
    os.utime(begun, (2_000_000_000, 2_000_000_000))
    with pytest.raises(ConfigError, match=f"expected a new file for {key}"):
        check_further_files(asked)
    os.utime(tmp_path / name, (2_000_000_001, 2_000_000_001))
    check_further_files(asked)


def test_features_in_the_home_folder_are_not_replaced_unasked(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "f.npz").touch()
    with pytest.raises(ConfigError, match=f"expected a new file for output_features, but {tmp_path}/f.npz exists"):
        check_further_files(request_of(tmp_path, features=Path("~/f.npz")))


def test_the_images_to_label_are_not_replaced_unasked_whatever_became_of_their_output(tmp_path):
    listed = tmp_path / "new_to_label.csv"
    listed.touch()
    check_further_files(request_of(tmp_path))
    with pytest.raises(
        ConfigError, match=r"images to label next, but .*new_to_label.csv exists; name another output=.*force=true"
    ):
        check_further_files(request_of(tmp_path, rank="entropy"))
    check_further_files(request_of(tmp_path, force=True, rank="entropy"))
    (tmp_path / "new.csv.part").mkdir()
    (tmp_path / "new.csv.part" / "plan.json").touch()
    os.utime(listed, (2_000_000_001, 2_000_000_001))
    check_further_files(request_of(tmp_path, rank="entropy"))  # it goes on where it was stopped


def test_the_input_is_no_other_output_of_the_same_stem(tmp_path):
    table = tmp_path / "new.parquet"
    table.touch()
    assert same_stem(request_of(tmp_path)) == table
    assert same_stem(request_of(tmp_path, source=str(table))) is None
