"""The names of images in tables: which of them mean the same image, and the rows of a table that they name.

People name an image by its id (`ISIC_1`), by its file (`ISIC_1.JPG`) or by a path (`train/ISIC_1.jpg`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.file_kind import IMAGE_SUFFIXES

DOWNSAMPLED: Final = "_downsampled"
"""The end of 2,074 names of ISIC 2019. In copies, the files or one of the tables may lack it."""
NAME_SUFFIXES: Final = frozenset({*IMAGE_SUFFIXES, ".dcm"})
"""Endings of files that are not part of an image's name."""


def clean_name(name: object) -> str:
    """Returns `name` as a text in the Unicode normal form NFC, without outer blanks, with slashes between folders."""
    text = str(name)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text.strip("\ufeff\u200b \t\r\n\xa0").replace("\\", "/").removeprefix("./")


def without_suffix(name: str) -> str:
    """Returns `name` without the ending of an image file, in upper or lower case. Other endings stay (`case.7`)."""
    stem, dot, ending = name.rpartition(".")
    return stem.rstrip() if stem and f"{dot}{ending.lower()}" in NAME_SUFFIXES else name


def image_key(name: object) -> str:
    """Returns a key that all names of one image share: `ISIC_1.JPG`, ` isic_1` and `ISIC_1_downsampled`."""
    return without_suffix(clean_name(name)).casefold().removesuffix(DOWNSAMPLED)


def plain_ids(names: pd.Series) -> pd.Series:
    """Returns the names of images without file endings and outer blanks; missing values stay missing."""
    return names.map(lambda name: without_suffix(clean_name(name)), na_action="ignore")


class ImageIds:
    """Finds the images of a table by the names that people write for them.

    A name means the image with this id; else the one whose id differs in the ending of an image file alone; else the
    one whose id has the same `image_key`. A name that may mean several images means none of them.

    Args:
        ids: the ids of the images; an id may occur in several rows.
        paths: whether a name that means none of them may be a path to the only image whose id ends with the same last
            part. It must not be an image that another name means.
    """

    def __init__(self, ids: Iterable[object], *, paths: bool = False) -> None:
        own = pd.Series([clean_name(name) for name in ids], dtype=object)
        own = own[~own.duplicated()]
        kinds: list[Callable[[str], str]] = [clean_name, without_suffix, image_key, *([_last_part] if paths else [])]
        self._kinds = [(kind, _rows_by(own.map(kind))) for kind in kinds]

    def rows(self, names: Iterable[object]) -> npt.NDArray[np.int64]:
        """Returns the first row of the image of each of `names`, int64 (N,); -1 for names of none of the images."""
        codes, different = pd.factorize(pd.Series([clean_name(name) for name in names], dtype=object))
        found = np.full(len(different), -1, dtype=np.int64)
        for kind, row_of in self._kinds:
            rest = np.flatnonzero(found < 0)
            rows = pd.Series([kind(name) for name in different[rest]], dtype=object).map(row_of)
            if kind is _last_part:
                rows = rows.where(~rows.isin(found[found >= 0]))
            found[rest] = rows.fillna(-1).to_numpy(np.int64)
        return found[codes]


def _rows_by(keys: pd.Series) -> pd.Series:
    """Returns the row of each key that no other row has, by key."""
    unique = keys[~keys.duplicated(keep=False)]
    return pd.Series(unique.index, index=unique.to_numpy(), dtype=np.int64)


def _last_part(name: str) -> str:
    return image_key(name).rpartition("/")[2]
