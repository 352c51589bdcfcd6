import numpy as np
import pandas as pd
import pytest

from lesion_exp.errors import DataError
from lesion_exp.verbs.audit.scores import read_predicted, scores

CLASSES = ["mel", "nv"]


@pytest.fixture
def test_part():
    """60 images of 30 lesions, half of them of each class, with an index of its own."""
    names = [f"i{place}" for place in range(60)]
    return pd.DataFrame(
        {
            "image_id": names, "row_id": names, "lesion_id": [f"L{place // 2}" for place in range(60)],
            "patient_id": None, "label": np.repeat(CLASSES, 30), "age": 50.0, "sex": None, "site": None,
            "source": "made", "split": "test", "group": names,
        },
        index=range(100, 160),
    )  # fmt: skip


def predicted(test, right):
    """Probabilities of 0.8 for the true class where `right`, else for the other."""
    of_mel = np.where((test["label"] == "mel").to_numpy() == right, 0.8, 0.2)
    return pd.DataFrame({"image_id": test["image_id"].to_numpy(), "p_mel": of_mel, "p_nv": 1 - of_mel})


def test_scores_with_and_without_the_touched_images(test_part):
    """Touched are 20 images, all of them right; of the other 40 half are right."""
    touched = pd.Series(np.tile(np.arange(30) < 10, 2), index=test_part.index)
    right = touched.to_numpy() | (np.arange(60) % 4 < 2)
    right[~touched.to_numpy()] = np.arange(40) % 4 < 2
    found = scores(test_part, touched, predicted(test_part, right).sample(frac=1, random_state=0), "a file", 200, 0)
    assert found.images == {"all": 60, "untouched": 40, "touched": 20}
    accuracy = found.metrics["accuracy"]
    assert accuracy["all"].value == pytest.approx(2 / 3)
    assert accuracy["untouched"].value == pytest.approx(0.5)
    assert accuracy["touched"].value == pytest.approx(1)
    gap = accuracy["difference"]
    assert gap.value == pytest.approx(1 / 6)
    assert 0 < gap.low < gap.value < gap.high
    assert set(found.metrics) == {"accuracy", "balanced_accuracy", "f1_macro", "auroc_macro"}


def test_labels_alone_have_no_auroc_and_the_same_accuracy(test_part):
    touched = pd.Series(np.arange(60) % 30 < 10, index=test_part.index)
    right = np.arange(60) % 3 > 0
    table = predicted(test_part, right)
    labels = pd.DataFrame(
        {"file": test_part["image_id"] + ".jpg", "prediction": np.where(table["p_mel"] > 0.5, "mel", "nv")}
    )
    imported = table.round().assign(labels_only=True)  # as a run of imported labels keeps them
    one, other, third = (scores(test_part, touched, each, "a file", 50, 0) for each in (table, labels, imported))
    assert set(one.metrics) - set(other.metrics) == {"auroc_macro"}
    assert other.metrics == third.metrics
    assert one.metrics["balanced_accuracy"] == other.metrics["balanced_accuracy"]


def test_images_without_a_prediction_and_classes_without_untouched_images_are_counted(test_part):
    touched = pd.Series((test_part["label"] == "mel").to_numpy(), index=test_part.index)
    found = scores(test_part, touched, predicted(test_part, np.ones(60, bool))[5:], "a file", 50, 0)
    assert found.missing == 5
    assert found.absent_classes == ("mel",)


def test_decimal_commas_are_read(test_part):
    touched = pd.Series(np.arange(60) % 30 < 10, index=test_part.index)
    table = predicted(test_part, np.arange(60) % 3 > 0)
    commas = table.assign(**{name: table[name].map(lambda value: f"{value:.2f}".replace(".", ","))
                             for name in ("p_mel", "p_nv")})  # fmt: skip
    one, other = (scores(test_part, touched, each, "a file", 20, 0) for each in (table, commas))
    assert one.metrics == other.metrics


def test_nothing_touched_has_no_difference(test_part):
    nothing = pd.Series(False, index=test_part.index)
    found = scores(test_part, nothing, predicted(test_part, np.ones(60, bool)), "a file", 50, 0)
    assert set(found.metrics["accuracy"]) == {"all", "untouched"}


def test_an_image_with_two_predictions_is_refused(test_part):
    table = predicted(test_part, np.ones(60, bool))
    with pytest.raises(DataError, match=r"got several for 1(.|\n)*i0"):
        scores(test_part, pd.Series(False, index=test_part.index), pd.concat([table, table[:1]]), "a file", 50, 0)


def test_a_file_without_predictions_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("image,mel,nv\ni0,0.2,0.8\n")
    with pytest.raises(DataError, match="got image, mel, nv; rename its columns"):
        read_predicted(tmp_path / "a.csv")


def test_classes_are_read_in_any_spelling_and_empty_predictions_are_missing(test_part):
    touched = pd.Series(np.arange(60) % 30 < 10, index=test_part.index)
    table = predicted(test_part, np.arange(60) % 3 > 0)
    one = scores(test_part, touched, table, "a file", 50, 0)
    assert scores(test_part, touched, table.rename(columns=str.upper).rename(
        columns={"IMAGE_ID": "image_id", "P_MEL": "p_MEL", "P_NV": "p_NV"}), "a file", 50, 0) == one  # fmt: skip
    words = {"mel": "Melanoma", "nv": "NV"}
    labels = table[["image_id"]].assign(prediction=np.where(table["p_mel"] > 0.5, "mel", "nv"))
    spelled = labels.assign(prediction=labels["prediction"].map(words))
    assert scores(test_part, touched, spelled, "a file", 50, 0) == scores(test_part, touched, labels, "a file", 50, 0)
    table.loc[:3, ["p_mel", "p_nv"]] = np.nan
    labels.loc[:3, "prediction"] = None
    for each in (table, labels):
        assert scores(test_part, touched, each, "a file", 50, 0).missing == 4


def test_predicted_labels_that_are_finer_or_coarser_than_the_true_ones_are_mapped_and_named(test_part):
    nothing = pd.Series(False, index=test_part.index)
    table = predicted(test_part, np.arange(60) % 3 > 0)
    labels = table[["image_id"]].assign(prediction=np.where(table["p_mel"] > 0.5, "mel", "nv"))
    plain = scores(test_part, nothing, labels, "a file", 20, 0)
    finer = labels.assign(prediction=labels["prediction"].replace({"nv": "common nevus", "mel": "melanoma in situ"}))
    found = scores(test_part, nothing, finer, "a file", 20, 0)
    assert found.metrics == plain.metrics
    assert plain.notes == ()
    said = "common nevus (30 predictions) is nv, melanoma in situ (30 predictions) is mel"
    assert said in found.notes[0]
    assert found.to_dict()["notes"] == list(found.notes)
    truth = test_part.assign(label=test_part["label"].replace({"nv": "atypical_nevus"}))
    found = scores(truth, nothing, labels, "a file", 20, 0)
    assert found.metrics == plain.metrics
    assert "atypical_nevus (30 images) is nv" in found.notes[0]


def test_a_class_that_is_never_predicted_is_not_merged_into_one_that_contains_it(test_part):
    nothing = pd.Series(False, index=test_part.index)
    labels = pd.DataFrame({"image_id": test_part["image_id"].to_numpy(), "prediction": test_part["label"].to_numpy()})
    truth = test_part.assign(label=[*["mel_in_situ"] * 15, *test_part["label"][15:]])
    found = scores(truth, nothing, labels, "a file", 20, 0)
    assert found.metrics["accuracy"]["all"].value == 0.75
    assert found.metrics["balanced_accuracy"]["all"].value == pytest.approx(2 / 3)
    assert found.notes == ()


def test_a_class_that_only_the_training_part_has_is_told_apart(test_part):
    nothing = pd.Series(False, index=test_part.index)
    split = pd.concat(
        [test_part, test_part.iloc[:1].assign(image_id="t", row_id="t", label="mel_in_situ", split="train")]
    )
    names = np.where(test_part["label"] == "mel", "mel_in_situ", "nv")
    labels = pd.DataFrame({"image_id": test_part["image_id"].to_numpy(), "prediction": names})
    columns = labels[["image_id"]].assign(p_mel_in_situ=names == "mel_in_situ", p_nv=names == "nv", p_mel=0)
    for predictions in (labels, columns):
        assert scores(split, nothing, predictions, "a file", 20, 0).metrics["accuracy"]["all"].value == 0.5
        assert scores(test_part, nothing, predictions, "a file", 20, 0).metrics["accuracy"]["all"].value == 1


def test_predictions_of_other_images_are_counted_and_do_not_count(test_part):
    touched = pd.Series(np.arange(60) % 30 < 10, index=test_part.index)
    table = predicted(test_part, np.arange(60) % 3 > 0)
    split = pd.concat([test_part, test_part.iloc[:1].assign(image_id="t/1", row_id="t/1", split="train")])
    more = pd.concat([table, table.iloc[:2].assign(image_id=["t/1", "elsewhere"])])
    found = scores(split, touched, more, "a file", 50, 0)
    assert (found.others, found.missing) == (2, 0)
    assert found.metrics == scores(test_part, touched, table, "a file", 50, 0).metrics
    with pytest.raises(DataError, match="but all 1 are of others"):
        scores(split, touched, more[more["image_id"] == "t/1"], "a file", 50, 0)


def test_columns_of_coarser_and_finer_classes_are_mapped_as_predicted_labels_are(test_part):
    nothing = pd.Series(False, index=test_part.index)
    table = predicted(test_part, np.arange(60) % 3 > 0)
    plain = scores(test_part, nothing, table, "a file", 20, 0)
    assert plain.notes == ()
    nevi = np.where(np.arange(60) % 2, "atypical_nevus", "common_nevus")
    truth = test_part.assign(label=np.where(test_part["label"] == "nv", nevi, test_part["label"]))
    of_more = table.assign(p_bcc=0.0, p_akiec=0.0)
    for given in (table, of_more):
        found = scores(truth, nothing, given, "a file", 20, 0)
        assert found.metrics["accuracy"] == plain.metrics["accuracy"]
        assert "atypical_nevus (15 images) is nv, common_nevus (15 images) is nv" in " ".join(found.notes)
    folders = test_part.assign(label=test_part["label"].map({"mel": "melanoma", "nv": "nevus"}))
    assert scores(folders, nothing, table, "a file", 20, 0).metrics == plain.metrics
    binary = table.rename(columns={"p_mel": "p_malignant", "p_nv": "p_benign"})
    assert scores(test_part, nothing, binary, "a file", 20, 0).metrics["accuracy"] == plain.metrics["accuracy"]
    parts = table.assign(p_mel=table["p_mel"] / 2, p_mel_in_situ=table["p_mel"] / 2)
    found = scores(test_part, nothing, parts, "a file", 20, 0)
    assert found.metrics == plain.metrics
    assert "mel_in_situ is mel" in found.notes[0]


def test_images_of_a_class_without_a_column_are_left_out_and_counted(test_part):
    touched = pd.Series(np.arange(60) % 30 < 10, index=test_part.index)
    table = predicted(test_part, np.arange(60) % 3 > 0)
    more = test_part.iloc[:4].assign(image_id=list("abcd"), row_id=list("abcd"), label="vasc", lesion_id=None)
    more.index = range(200, 204)
    both = pd.concat([more, test_part])
    others = pd.DataFrame({"image_id": list("abcd"), "p_mel": 0.5, "p_nv": 0.5})
    of_both = pd.concat([pd.Series(True, index=more.index), touched])
    found = scores(both, of_both, pd.concat([table, others]), "a file", 20, 0)
    plain = scores(test_part, touched, table, "a file", 20, 0)
    assert found.metrics == plain.metrics
    assert found.images == plain.images
    assert found.missing == 0
    assert "left out: vasc (4 images)" in " ".join(found.notes)


def test_a_file_that_leaves_one_class_is_refused_and_no_filter_to_that_class_is_named(test_part):
    nothing = pd.Series(False, index=test_part.index)
    one = predicted(test_part, True).drop(columns="p_nv")
    with pytest.raises(DataError, match="without nv, so that images of fewer than two classes are left; add") as told:
        scores(test_part, nothing, one, "a file", 50, 0)
    assert "dataset.filter" not in str(told.value)
    assert "task.target" not in str(told.value)  # no image would be benign
    coarse = test_part.assign(label=test_part["label"].map({"mel": "malignant", "nv": "benign_dermal"}))
    with pytest.raises(DataError, match=r"or set task\.target=malignant to tell"):
        scores(coarse, nothing, predicted(test_part, True), "a file", 50, 0)
    binary = coarse.assign(label=coarse["label"].replace("benign_dermal", "benign"))
    assert scores(binary, nothing, predicted(test_part, True), "a file", 50, 0).metrics["accuracy"]["all"].value == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.assign(p_NV=table["p_nv"]), "p_NV and p_nv are both nv"),
        (lambda table: table.assign(p_nv=table["p_nv"].astype(object).where(table.index > 0, "x")), r"\n  - row 2$"),
        (lambda table: table[["image_id"]].assign(prediction="melanom4"), "got melanom4"),
    ],
)
def test_predictions_that_cannot_be_scored_are_refused(test_part, change, said):
    touched = pd.Series(False, index=test_part.index)
    with pytest.raises(DataError, match=said):
        scores(test_part, touched, change(predicted(test_part, True)), "a file", 50, 0)
