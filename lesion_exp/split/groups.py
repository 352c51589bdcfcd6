"""The groups of images that must stay together in a split."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lesion_exp.split.near_duplicates import near_duplicate_pairs

IDENTITIES: Final = ("image_id", "shared_image_id", "lesion_id", "patient_id", "sha256")
"""Columns in which an equal value puts two images into one group."""

IntArray = npt.NDArray[np.int64]


def assign_groups(table: pd.DataFrame, near_duplicate_threshold: float) -> pd.Series:
    """Returns the group of each row, named after its first image.

    Images of the same patient or lesion, identical images and near-duplicates are in one group, and so are images that
    are connected by a chain of these relations. A missing id connects nothing. `dataset=combined` has already prefixed
    the ids of different sets, so that equal ids mean the same lesion or patient.

    Args:
        table: a table with `image_id, lesion_id, patient_id, sha256, phash, thumbnail` and possibly `shared_image_id`.
        near_duplicate_threshold: see `near_duplicate_pairs`.

    Raises:
        ConfigError: the threshold is out of range.
    """
    pairs = near_duplicate_pairs(table, near_duplicate_threshold)
    links = [pairs[["first", "second"]].to_numpy(np.int64)]
    links += [_equal_values(table, column) for column in IDENTITIES if column in table]
    first, second = np.concatenate(links).T
    size = len(table)
    graph = coo_matrix((np.ones(len(first), np.int8), (first, second)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    names = pd.Series(table["image_id"].to_numpy()).groupby(component).min()
    return pd.Series(names.to_numpy()[component], index=table.index, name="group")


def _equal_values(table: pd.DataFrame, column: str) -> IntArray:
    """Returns pairs of the first row with some value and each row with that value, int64 (P, 2)."""
    known = np.flatnonzero(table[column].notna().to_numpy())
    values = table[column].to_numpy()[known].astype(str)
    codes, _ = pd.factorize(values)
    _, first = np.unique(codes, return_index=True)
    return np.stack([known[first[codes]], known], axis=1)
