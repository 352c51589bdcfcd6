import sys

import numpy as np
import pandas as pd
import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.evaluation.label_errors import errors_by_class, label_errors

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
