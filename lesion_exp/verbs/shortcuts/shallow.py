"""Shallow models that never see a lesion, judged as the network is."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from lesion_exp.evaluation.predictions import predictions_table


def shallow_predictions(
    features: pd.DataFrame, table: pd.DataFrame, part: str, classes: tuple[str, ...], seed: int = 0
) -> pd.DataFrame:
    """The predictions table on `part` of boosted trees that were fitted on the training part.

    Classes weigh the same, whatever their frequency, so that balanced accuracy is what the model goes for.

    Args:
        features: a row for each row of `table`, in its order; columns of numbers and of categories.
        table: split table.
        part: the judged part.
        classes: class names, in class order.
        seed: of the model.
    """
    split = table["split"].to_numpy()
    train, judged = split == "train", split == part
    model = HistGradientBoostingClassifier(
        max_iter=100,
        max_leaf_nodes=15,
        min_samples_leaf=10,
        l2_regularization=1.0,
        class_weight="balanced",
        categorical_features="from_dtype",
        early_stopping=False,
        random_state=seed,
    )
    model.fit(features[train], table["label"].to_numpy()[train])
    found = model.predict_proba(features[judged])
    probs = np.zeros((len(found), len(classes)))
    probs[:, [classes.index(name) for name in model.classes_]] = found
    return predictions_table(table[judged], probs, classes)


def majority_predictions(table: pd.DataFrame, part: str, classes: tuple[str, ...]) -> pd.DataFrame:
    """The predictions table on `part` of who always says the most frequent class of the training part, with the
    frequencies there as probabilities."""
    train = table.loc[table["split"] == "train", "label"].value_counts(normalize=True)
    judged = table[table["split"] == part]
    shares = np.array([float(train.get(name, 0.0)) for name in classes])
    return predictions_table(judged, np.tile(shares, (len(judged), 1)), classes)
