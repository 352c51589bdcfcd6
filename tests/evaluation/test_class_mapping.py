import numpy as np
import pandas as pd
import pytest

from lesion_exp.errors import DataError
from lesion_exp.evaluation.class_mapping import (
    GIVEN_LABEL,
    added_in_words,
    added_up,
    classes_of_labels,
    map_classes,
    map_predicted_classes,
    map_predicted_labels,
    mapping_in_words,
    mapping_of,
    predicted_mapping_in_words,
)
from lesion_exp.evaluation.evaluation_result import EvaluationOptions, evaluate_table
from lesion_exp.evaluation.metrics import OF_PROBABILITIES, metrics
from lesion_exp.evaluation.predictions import LABELS_ONLY, predictions_table
from lesion_exp.taxonomy import IS_UNKNOWN
from tests.evaluation.conftest import make_table, rows_of

HAM = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def test_labels_that_are_classes_already_leave_the_table_as_it_is():
    table = rows_of(["mel", "nv"])
    assert map_classes(table, HAM, "x") is table
    assert mapping_of(make_table(50)) == {}


def test_parts_of_a_class_are_that_class_and_other_labels_are_marked():
    table = map_classes(rows_of(["common_nevus", "atypical_nevus", "mel", "inf", "Melanoma"]), HAM, "x")
    assert table["label"].tolist() == ["nv", "nv", "mel", "inf", "mel"]
    assert table[IS_UNKNOWN].tolist() == [False, False, False, True, False]
    assert table[GIVEN_LABEL].tolist() == ["common_nevus", "atypical_nevus", "mel", "inf", "Melanoma"]


def test_a_data_set_is_never_reduced_to_one_class_without_a_word():
    with pytest.raises(DataError, match=r"only images of nv are left(.|\n)*inf \(2 images\)(.|\n)*psoriasis"):
        map_classes(rows_of(["common_nevus", "inf", "inf", "psoriasis"]), HAM, "x")
    with pytest.raises(DataError, match="no image is left"):
        map_classes(rows_of(["ben_oth"]), HAM, "x")


def test_absent_classes_keep_their_probabilities_and_count_as_errors():
    rows = map_classes(rows_of(["common_nevus", "common_nevus", "mel", "mel", "inf"]), HAM, "x")
    probs = np.zeros((5, 7), dtype=np.float32)
    probs[range(5), [HAM.index(name) for name in ("nv", "bcc", "mel", "mel", "bcc")]] = 1
    table = predictions_table(rows, probs, HAM)
    result = evaluate_table(table, options=EvaluationOptions(draws=50))
    assert result.metrics["accuracy"] == 0.75
    assert result.metrics["balanced_accuracy"] == 0.75  # over the classes present: nv 1/2, mel 2/2
    told = result.files()["class_mapping.json"]
    assert told["mapped"] == {"mel": {"mel": 2}, "nv": {"common_nevus": 2}}
    assert told["left_out"] == {"inf": 1}
    assert told["absent"] == ["akiec", "bcc", "bkl", "df", "vasc"]
    assert told["predicted_absent"] == 1
    assert result.note == ". ".join(text[:1].upper() + text[1:] for text in mapping_in_words(table))
    for words in ("common_nevus (2 images) is nv", "are left out: inf (1 images)", "the 1 prediction of them count"):
        assert words in result.note


def test_predicted_classes_alone_have_no_metric_of_probabilities():
    graded = make_table(300)
    hot = pd.get_dummies(graded["prediction"]).reindex(columns=list(HAM), fill_value=False).to_numpy(np.float32)
    table = predictions_table(rows_of(graded["label"].tolist()).assign(**{LABELS_ONLY: True}), hot, HAM)
    found, known = metrics(table), metrics(graded)
    assert {name.partition("/")[0] for name in found} & OF_PROBABILITIES == set()
    assert {name for name in known if name.partition("/")[0] not in OF_PROBABILITIES} == set(found)
    assert found["balanced_accuracy"] == known["balanced_accuracy"]
    result = evaluate_table(table, options=EvaluationOptions(draws=50))
    assert "without probabilities" in result.note
    assert result.decision is None
    assert not [name for name in result.estimates if name.startswith(("isic/auc", "isic/ap", "isic/pauc"))]
    assert "isic/sensitivity/mel" in result.estimates
    assert set(result.subgroups.overall) == {
        "accuracy",
        "balanced_accuracy",
        "recall/malignant",
        "specificity/malignant",
    }


def test_a_predicted_label_is_the_true_class_that_contains_it():
    predicted = ["AK", "scc", "Common Nevus", "NV", "Melanoma", "df", "nothing"]
    found = map_predicted_labels(predicted, HAM[:3] + HAM[4:])
    assert found == {
        "AK": "akiec", "scc": "akiec", "Common Nevus": "nv", "NV": "nv", "Melanoma": "mel", "df": "df", "nothing": None,
    }  # fmt: skip
    words = predicted_mapping_in_words([*predicted, "AK"], found, HAM)
    pairs = ("AK (2 predictions) is akiec", "Common Nevus (1 prediction) is nv", "scc (1 prediction) is akiec")
    assert words.endswith(f"by the taxonomy: {', '.join(pairs)}")
    finer = ["common_nevus", "atypical_nevus", "mel"]
    assert map_predicted_labels(["nv", "atypical nevus"], finer) == {"nv": "nv", "atypical nevus": "atypical_nevus"}
    assert map_predicted_labels(["mel", "NV"], ["benign", "malignant"]) == {"mel": "malignant", "NV": "benign"}
    assert predicted_mapping_in_words(["NV"], {"NV": "nv"}, HAM) == ""


def test_classes_that_the_data_set_tells_apart_are_not_merged_by_predicted_labels():
    fine = ["mel", "mel_in_situ", "nv"]
    assert classes_of_labels(["mel", "nv"], fine, fine) == ("mel", "mel_in_situ", "nv")
    assert classes_of_labels(["mel", "nv"], ["mel_in_situ", "nv"], fine) == ("mel", "mel_in_situ", "nv")
    assert classes_of_labels(["mel", "nv"], ["mel_in_situ", "nv"], ["mel_in_situ", "nv"]) == ("mel", "nv")
    ph2 = ["atypical_nevus", "common_nevus", "mel"]
    assert classes_of_labels(["mel", "nv"], ph2, ph2) == ("mel", "nv")
    assert classes_of_labels(["nv", "bcc"], ["nv", "vasc"], ["nv", "vasc"]) == ("bcc", "nv", "vasc")


def test_probabilities_of_classes_that_are_finer_than_the_true_ones_are_added_up():
    classes = ("ak", "bcc", "mel", "scc", "unk")
    targets = map_predicted_classes(classes, {"akiec", "bcc", "mel", "nv"})
    assert targets == {"ak": "akiec", "bcc": "bcc", "mel": "mel", "scc": "akiec", "unk": "unk"}
    probs = np.array([[0.1, 0.2, 0.3, 0.15, 0.25], [0.5, 0.1, 0.1, 0.3, 0.0]])
    found, sums = added_up(probs, classes, targets)
    assert found == ("akiec", "bcc", "mel", "unk")
    np.testing.assert_allclose(sums, [[0.25, 0.2, 0.3, 0.25], [0.8, 0.1, 0.1, 0.0]])
    assert added_in_words(targets).endswith("added up: ak is akiec, scc is akiec")
    assert added_in_words({"ak": "akiec", "mel": "mel"}).endswith("by the taxonomy: ak is akiec"), "nothing was added"
    assert map_predicted_classes(classes, {"benign", "malignant"})["bcc"] == "malignant"


def test_classes_that_the_truth_tells_apart_keep_their_names_and_a_run_its_spelling():
    own = map_predicted_classes(("mel", "nv"), {"melanoma", "naevus"})
    assert own == {"mel": "mel", "nv": "nv"}
    assert added_in_words(own) == ""
    spelled = map_predicted_classes(("mel", "nv"), {"melanoma", "naevus"}, ("melanoma", "naevus"))
    assert spelled == {"mel": "melanoma", "nv": "naevus"}
    assert added_in_words(spelled) == ""
    finer = map_predicted_classes(("common_nevus", "nevus"), {"nevus", "melanoma"})
    assert finer == {"common_nevus": "nevus", "nevus": "nevus"}
    coarser = map_predicted_classes(("mel", "nv"), {"mel", "common_nevus", "atypical_nevus"})
    assert coarser == {"mel": "mel", "nv": "nv"}
