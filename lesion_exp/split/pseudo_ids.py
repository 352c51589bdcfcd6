"""The ids in a file of pseudo-labels that mean a lesion, patient or image of the data set, though written differently.

`dataset=combined` writes the name of a set, or `isic` for the ISIC archive, before an id (`clinic/7`,
`isic/HAM_0000118`). The images that only a file of pseudo-labels names have the ids of that file, which may have been
written for other data: `7` may be `clinic/7`, and the reverse.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.image_ids import ARCHIVE_ID, DOWNSAMPLED, clean_name, without_suffix
from lesion_exp.taxonomy import PSEUDO_RUN, PSEUDO_SOURCE

_OF_ARCHIVE: Final = "isic/"
_COLUMNS: Final = ("lesion_id", "patient_id", "image_id")
IntArray = npt.NDArray[np.int64]


def meant_ids(table: pd.DataFrame, column: str) -> pd.Series:
    """Returns the ids of the data set that the ids of new pseudo-labelled images may mean, though they are not equal.

    An id with the name of a set or of the archive means that of this set or archive, with or without its prefix. An id
    without one may mean that of any set. Ids of images are compared only if they are those of the ISIC archive.

    Args:
        table: a table with `source` and `column`, and with `PSEUDO_RUN` if it has pseudo-labelled images.
        column: `lesion_id`, `patient_id` or `image_id`.

    Returns:
        The ids, by the index of the new images; an image is there once for each id that it may mean.
    """
    if PSEUDO_RUN not in table:
        return pd.Series(dtype=object)
    is_new = (table["source"] == PSEUDO_SOURCE) & table[PSEUDO_RUN].notna()
    rows, new = (table[chosen & table[column].notna()] for chosen in (~is_new, is_new))
    find = _by_archive(rows) if column == "image_id" else _by_plain_id(rows, column, set(table.loc[~is_new, "source"]))
    found = [sorted(find(str(name))) for name in new[column]]
    return pd.Series(found, index=new.index, dtype=object).explode().dropna()


def links_by_meant_ids(table: pd.DataFrame) -> IntArray:
    """Returns pairs of a row of the data set and a new pseudo-labelled row that `meant_ids` join, int64 (P, 2).

    Args:
        table: see `meant_ids`; its index is unique.
    """
    place = pd.Series(np.arange(len(table), dtype=np.int64), index=table.index)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for column in _COLUMNS:
        meant = meant_ids(table, column)
        first = place.groupby(table[column].astype(str)).first()  # rows of one id are in one group anyway
        ends = [first.loc[meant.to_numpy()].to_numpy(np.int64), place.loc[meant.index].to_numpy(np.int64)]
        pairs.append(np.stack(ends, axis=1))
    return np.concatenate(pairs)


def _by_plain_id(rows: pd.DataFrame, column: str, sources: Collection[str]) -> Callable[[str], set[str]]:
    """Returns a function from an id of a new image to the ids in `rows` that it may mean."""
    known = set(rows[column].astype(str))
    by_plain: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for name, source in zip(rows[column].astype(str), rows["source"], strict=True):
        by_plain[name.removeprefix(f"{source}/").removeprefix(_OF_ARCHIVE)].add((source, name))

    def find(name: str) -> set[str]:
        if name in known:
            return set()
        prefix, _, rest = name.partition("/")
        if prefix in sources and not name.startswith(_OF_ARCHIVE):
            return {each for source, each in by_plain.get(rest, ()) if source == prefix}
        found = by_plain.get(name.removeprefix(_OF_ARCHIVE)) or by_plain.get(rest) or ()
        return {each for _, each in found}

    return find


def _by_archive(rows: pd.DataFrame) -> Callable[[str], set[str]]:
    """Returns a function from the id of a new image to the ids in `rows` of the same image of the ISIC archive."""
    by_name: dict[str, set[str]] = defaultdict(set)
    for name in rows["image_id"].astype(str):
        by_name[_in_archive(name)].add(name)
    by_name.pop("", None)
    return lambda name: by_name.get(_in_archive(name), set())


def _in_archive(image_id: str) -> str:
    """Returns the id of an image in the ISIC archive; an empty text for other images."""
    name = without_suffix(clean_name(image_id).rpartition("/")[2]).removesuffix(DOWNSAMPLED)
    return name if ARCHIVE_ID.fullmatch(name) else ""
