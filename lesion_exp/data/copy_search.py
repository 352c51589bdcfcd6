"""The copies among the images of a data set, searched once and kept beside the image stores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from lesion_exp.data.lock import file_lock
from lesion_exp.image_file import read_image
from lesion_exp.split.copies import copied_pairs

VERSION: Final = 2
"""Version of the search. It increases if the search finds other pairs in the same pixels."""


def copy_ids(table: pd.DataFrame, cache_dir: Path, progress: Callable[[int, int], None] | None = None) -> pd.Series:
    """Returns the column `copy_id`: for each image with copies the first `image_id` among them, else None.

    Copies are those that `split.copies` finds, and copies of copies. The image files themselves are searched and not
    an image store, because the split must not depend on the image size. The pairs are kept in `cache_dir`, by the
    contents of the images.

    Args:
        table: a table with `image_id`, `image_path` and `sha256`.
        cache_dir: folder of all stores.
        progress: is called with the number of images done and in total, unless the pairs are known.

    Raises:
        DataError: an image cannot be read.
    """
    images = (
        table[["image_id", "sha256", "image_path"]]
        .drop_duplicates("image_id")
        .sort_values("image_id", ignore_index=True)
    )
    digest = hashlib.sha256(f"{VERSION}\n".encode())
    for name, content in images[["image_id", "sha256"]].itertuples(index=False):
        digest.update(f"{name}\t{content}\n".encode())
    path = cache_dir / f"copies_{digest.hexdigest()[:16]}.parquet"
    with file_lock(path.with_suffix(".lock")):
        if not path.exists():
            paths = images["image_path"].tolist()
            pairs = copied_pairs(lambda place: read_image(paths[place]), len(images), progress, cache_dir)
            unfinished = path.with_suffix(".unfinished")
            pairs.to_parquet(unfinished)
            unfinished.replace(path)
    return _first_of_copies(images["image_id"], pd.read_parquet(path)).reindex(table["image_id"]).set_axis(table.index)


def _first_of_copies(names: pd.Series, pairs: pd.DataFrame) -> pd.Series:
    size, ends = len(names), (pairs["first"], pairs["second"])
    _, component = connected_components(coo_matrix((np.ones(len(pairs)), ends), shape=(size, size)), directed=False)
    first = names.groupby(component).transform("first")  # names are sorted
    several = pd.Series(component).groupby(component).transform("size") > 1
    return pd.Series(first.where(several, None).to_numpy(object), index=names.to_numpy())
