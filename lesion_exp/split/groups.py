"""What must stay together in a split."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lesion_exp.split.near_duplicates import near_duplicate_pairs

IDENTITIES: Final = ("image_id", "shared_image_id", "lesion_id", "patient_id", "sha256")
"""Columns of which an equal value puts two images into one group."""

IntArray = npt.NDArray[np.int64]


def assign_groups(table: pd.DataFrame, near_duplicate_threshold: float) -> pd.Series:
    """The group of each row, named after its first image.

    Images of a patient, of a lesion, with the same content or nearly the same picture are one group, and so is whatever
    is joined through a chain of these. A missing id joins nothing. Equal ids are of one thing: where several sets are
    combined, their ids have been made different before, unless they come from one archive.

    Args:
        table: with `image_id, lesion_id, patient_id, sha256, phash, thumbnail`, perhaps `shared_image_id`.
        near_duplicate_threshold: see `near_duplicate_pairs`.

    Raises:
        ConfigError: see `near_duplicate_pairs`.
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
    """Pairs of rows with the same known value, each with the first of them, int64 (P, 2)."""
    known = np.flatnonzero(table[column].notna().to_numpy())
    values = table[column].to_numpy()[known].astype(str)
    codes, _ = pd.factorize(values)
    _, first = np.unique(codes, return_index=True)
    return np.stack([known[first[codes]], known], axis=1)
