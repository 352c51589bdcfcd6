"""Shallow models that never see a lesion, and their features."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from lesion_exp.data.store import ImageStore
from lesion_exp.dataset.table import UNKNOWN
from lesion_exp.evaluation.predictions import predictions_table
from lesion_exp.image_file import file_and_image_size
from lesion_exp.progress import Stage


def shallow_predictions(
    features: pd.DataFrame, table: pd.DataFrame, part: str, classes: tuple[str, ...], seed: int = 0
) -> pd.DataFrame:
    """Returns the predictions on `part` of gradient-boosted trees that are fitted on the training part.

    Classes have the same total weight, so that the model optimises its balanced accuracy.

    Args:
        features: a row for each row of `table`, in its order; columns of numbers and of categories.
        table: split table.
        part: the part to predict.
        classes: class names, in class order.
        seed: seed of the model.
    """
    split = table["split"].to_numpy()
    train, predicted = split == "train", split == part
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
    features = features.loc[:, features[train].notna().any()]  # the model cannot be fitted to a column without values
    model.fit(features[train], table["label"].to_numpy()[train])
    found = model.predict_proba(features[predicted])
    probs = np.zeros((len(found), len(classes)))
    probs[:, [classes.index(name) for name in model.classes_]] = found
    return predictions_table(table[predicted], probs, classes)


def majority_predictions(table: pd.DataFrame, part: str, classes: tuple[str, ...]) -> pd.DataFrame:
    """Returns the predictions on `part` of a model that always predicts the most frequent class of the training part,
    with the class frequencies there as probabilities."""
    train = table.loc[table["split"] == "train", "label"].value_counts(normalize=True)
    rows = table[table["split"] == part]
    shares = np.array([float(train.get(name, 0.0)) for name in classes])
    return predictions_table(rows, np.tile(shares, (len(rows), 1)), classes)


RIM: Final = 0.06
"""The width of the rim of an image, as a share of its shorter side."""
_MOST_VALUES: Final = 200
"""The largest number of categories of a feature; rarer values count as missing."""


def metadata_features(table: pd.DataFrame) -> pd.DataFrame:
    """Returns age, sex, site and source, and which of these and of the ids are missing, for each row of `table`."""
    columns: dict[str, pd.Series] = {"age": table["age"].astype(float)}
    for name in ("sex", "site", "source"):
        words = table[name].astype(str)
        frequent = words.value_counts().index[:_MOST_VALUES]
        columns[name] = words.where(words.isin(frequent) & (words != UNKNOWN)).astype("category")
    for name in ("age", "lesion_id", "patient_id"):
        columns[f"{name}_missing"] = table[name].isna().astype(float)
    for name in ("sex", "site"):
        columns[f"{name}_missing"] = (table[name] == UNKNOWN).astype(float)
    return pd.DataFrame(columns).reset_index(drop=True)


def rim_features(table: pd.DataFrame, store: ImageStore, plane: str = "pixels") -> pd.DataFrame:
    """Returns the mean colour and the standard deviation of the brightness in the four edges and corners of images.

    Args:
        table: the rows of the images.
        store: the image store.
        plane: `pixels`, or `clinical` for the clinical photographs.
    """
    images = table["image_id"].drop_duplicates()
    found = []
    with Stage("reading the edges of", len(images), "images") as stage:
        for row in store.rows(images):
            found.append(_rim(store.read(row, plane)))
            stage.advance()
    rows = pd.DataFrame(found, index=images.to_numpy())
    return rows.loc[table["image_id"].to_numpy()].reset_index(drop=True)


def file_features(table: pd.DataFrame, column: str = "image_path") -> pd.DataFrame:
    """Returns the size of the file in bytes, width and height of the image in pixels, and bytes per pixel.

    Args:
        table: the rows of the images.
        column: the column with their files.
    """
    images = table.drop_duplicates("image_id")
    facts = [file_and_image_size(locator) for locator in images[column]]
    found = pd.DataFrame(facts, columns=["num_bytes", "width", "height"], index=images["image_id"].to_numpy())
    found = found.astype(float).assign(bytes_per_pixel=found["num_bytes"] / (found["width"] * found["height"]))
    return found.loc[table["image_id"].to_numpy()].reset_index(drop=True)


def _rim(image: np.ndarray) -> dict[str, float]:
    height, width = image.shape[:2]
    rim = max(1, round(RIM * min(height, width)))
    near, middle = slice(0, rim), slice(rim, -rim)
    far = slice(-rim, None)
    places = {
        "top": (near, middle), "bottom": (far, middle), "left": (middle, near), "right": (middle, far),
        "top_left": (near, near), "top_right": (near, far), "bottom_left": (far, near), "bottom_right": (far, far),
    }  # fmt: skip
    found = {}
    for name, (rows, columns) in places.items():
        pixels = image[rows, columns].reshape(-1, 3).astype(np.float64)
        for colour, value in zip(("red", "green", "blue"), pixels.mean(axis=0), strict=True):
            found[f"{name}_{colour}"] = float(value)
        found[f"{name}_spread"] = float(pixels.mean(axis=1).std())
    return found
