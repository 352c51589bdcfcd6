import sys

import numpy as np
import pandas as pd
import pytest

from lesion_exp.errors import ConfigError, DataError
from lesion_exp.evaluation.label_errors import check_strong_enough, errors_by_class, label_errors
from lesion_exp.evaluation.metrics import metrics

CLASSES = np.array(["bcc", "df", "mel", "nv"], dtype=object)


@pytest.fixture
def table():
    """Predictions of a good model; ten labels mel are nv in truth, and no image is labelled df."""
    rng = np.random.default_rng(0)
    true = rng.choice([0, 2, 3], 300, p=[0.2, 0.3, 0.5])
    logits = rng.normal(size=(300, 4))
    logits[np.arange(300), true] += 5
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = true.copy()
    wrong = np.flatnonzero(true == 3)[:10]
    labels[wrong] = 2
    ids = [f"i{number}" for number in range(300)]
    columns = {f"p_{name}": probs[:, position] for position, name in enumerate(CLASSES)}
    named = {"row_id": ids, "image_id": ids, "label": CLASSES[labels], "prediction": CLASSES[probs.argmax(axis=1)]}
    return pd.DataFrame({**named, **columns}), {ids[position] for position in wrong}


def test_planted_errors_are_found_with_the_true_class(table):
    table, planted = table
    found = label_errors(table)
    assert list(found) == ["row_id", "image_id", "label", "suggested", "score"]
    assert len(planted & set(found["image_id"])) >= 7
    assert len(found) <= 15, "hardly any good label is doubted"
    assert found["score"].is_monotonic_increasing
    named = found[found["image_id"].isin(planted)]
    assert (named["label"] == "mel").all()
    assert (named["suggested"] == "nv").mean() >= 0.9


def test_counts_of_each_class_that_has_images(table):
    table, _ = table
    found = label_errors(table)
    counts = errors_by_class(table, found)
    assert set(counts) == {"bcc", "mel", "nv"}
    assert sum(count["suspected"] for count in counts.values()) == len(found)
    assert counts["mel"]["images"] == (table["label"] == "mel").sum()
    assert counts["mel"]["suggested"]["nv"] >= 7


def test_without_the_package_the_message_says_what_to_install(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(ConfigError, match="pip install cleanlab"):
        label_errors(table[0])


def weakened(table, share):
    """The table with the predictions of that share of its images dealt anew."""
    rng = np.random.default_rng(1)
    rows = rng.permutation(len(table))[: int(share * len(table))]
    columns = [name for name in table if name.startswith("p_")]
    probs = table[columns].to_numpy(copy=True)
    probs[rows] = rng.permutation(probs[rows], axis=1)
    return table.assign(prediction=CLASSES[probs.argmax(axis=1)], **dict(zip(columns, probs.T, strict=True)))


def test_a_weak_network_is_too_weak_to_judge_and_the_remedy_works(table):
    weak = weakened(table[0], 0.75)
    accuracy = metrics(weak, ["balanced_accuracy"])["balanced_accuracy"]
    assert accuracy < 7 / 9, "two thirds of the way from guessing among the three classes that have images"
    with pytest.raises(DataError, match="too weak") as refused:
        check_strong_enough(weak)
    way = "(two thirds of the way from guessing among 3 classes to always right)"
    assert f"at least 0.778 {way}, got one with {accuracy:.3f}" in str(refused.value)
    remedy = float(str(refused.value).rpartition("min_balanced_accuracy=")[2].split()[0])
    assert check_strong_enough(weak, remedy) == accuracy
    with pytest.raises(DataError, match=r"at least 0.990"):
        check_strong_enough(table[0], 0.99)


def test_a_good_network_may_judge(table):
    assert check_strong_enough(table[0]) == metrics(table[0], ["balanced_accuracy"])["balanced_accuracy"]


def test_two_classes_ask_for_more_than_seven(table):
    two = pd.DataFrame({"row_id": list("abcd"), "image_id": list("abcd"), "label": ["mel", "mel", "nv", "nv"]})
    two = two.assign(prediction=["mel", "nv", "nv", "mel"], p_mel=[0.9, 0.2, 0.2, 0.8], p_nv=[0.1, 0.8, 0.8, 0.2])
    with pytest.raises(DataError, match=r"at least 0.833.*got one with 0.500"):
        check_strong_enough(two)
