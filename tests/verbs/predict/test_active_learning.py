import numpy as np
import pandas as pd
import pytest

from lesion_exp.errors import ConfigError
from lesion_exp.verbs.predict.active_learning import entropy, images_to_label, margin

PROBS = np.array([[0.98, 0.01, 0.01], [0.5, 0.49, 0.01], [0.34, 0.33, 0.33], [np.nan] * 3, [1.0, 0.0, 0.0]])


@pytest.fixture
def table():
    predictions = ["a", "a", "a", None, "a"]
    columns = {f"p_{name}": PROBS[:, position] for position, name in enumerate("abc")}
    return pd.DataFrame({"image": list("vwxyz"), "prediction": predictions, **columns})


def test_measures_of_uncertainty():
    assert entropy(np.full((1, 4), 0.25))[0] == pytest.approx(np.log(4))
    assert entropy(np.array([[1.0, 0.0]]))[0] == 0
    assert margin(np.array([[0.2, 0.5, 0.3]]))[0] == pytest.approx(0.2)


def test_the_least_certain_come_first_and_errors_never(table):
    assert images_to_label(table, "entropy", 2)["image"].tolist() == ["x", "w"]
    chosen = images_to_label(table, "margin", 10)
    assert chosen["image"].tolist() == ["w", "x", "v", "z"] or chosen["image"].tolist() == ["x", "w", "v", "z"]
    assert chosen["score"].is_monotonic_increasing
    assert list(chosen) == ["image", "prediction", "score", "label"]
    assert (chosen["label"] == "").all()


def test_a_coreset_takes_one_of_each_cluster(table):
    features = np.array([[0.0, 0], [0.1, 0], [10, 0], [np.nan, np.nan], [0, 10]])
    chosen = images_to_label(table, "coreset", 3, features)
    assert chosen["image"].tolist() == ["x", "z", "v"] or set(chosen["image"][:2]) == {"x", "z"}
    assert np.isnan(chosen["score"][0]), "an empty cell of the csv: nothing was chosen before it"
    assert chosen["score"].tolist()[1:] == pytest.approx([np.hypot(10, 10), 10.0], abs=0.1)
    everything = images_to_label(table, "coreset", 9, np.zeros((5, 2)))
    assert sorted(everything["image"]) == ["v", "w", "x", "z"], "the same features, and each image once"


def test_another_ranking_is_refused(table):
    with pytest.raises(ConfigError, match="'margin'"):
        images_to_label(table, "margins", 1)
