"""What can be known of an image without looking at its lesion, as columns for a shallow model."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.data.store import ImageStore
from lesion_exp.dataset.table import UNKNOWN
from lesion_exp.image_file import file_facts
from lesion_exp.progress import Stage

RIM: Final = 0.06
"""Width of the looked-at rim of an image, as a share of its shorter side."""
_MOST_VALUES: Final = 200
"""Different values of a column of words that a model is given; rarer ones count as missing."""


def metadata_features(table: pd.DataFrame) -> pd.DataFrame:
    """Age, sex, site and source, and which of these and of the ids are missing; a row an image."""
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


def rim_features(table: pd.DataFrame, store: ImageStore) -> pd.DataFrame:
    """Mean colour and spread of brightness in the four edges and the four corners of each image."""
    images = table["image_id"].drop_duplicates()
    found = []
    with Stage("looking at the edges of", len(images), "images") as stage:
        for row in store.rows(images):
            found.append(_rim(store.read(row)))
            stage.advance()
    rows = pd.DataFrame(found, index=images.to_numpy())
    return rows.loc[table["image_id"].to_numpy()].reset_index(drop=True)


def file_features(table: pd.DataFrame) -> pd.DataFrame:
    """Size of the file in bytes, width and height of the image in pixels, and bytes a pixel."""
    images = table.drop_duplicates("image_id")
    facts = [file_facts(locator) for locator in images["image_path"]]
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
