"""The names of images in tables: which of them mean the same image, and the rows of a table that they name.

People name an image by its id (`ISIC_1`), by its file (`ISIC_1.JPG`) or by a path (`train/ISIC_1.jpg`).
"""

from __future__ import annotations

import re
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

ARCHIVE_ID: Final = re.compile(r"(?:ISIC|HAM|BCN|MSK\d*|IL|IP)_\d{7}")
"""Ids of images, lesions and patients of the ISIC archive, by which they are recognised in users' own tables too."""
ID_ORIGIN: Final = "id_origin"
"""Column with the data set in which the ids of lesions and patients of a row are unique."""
OF_A_FOLDER: Final = "own-"
"""Beginning of such a data set that is the user's own. Equal ids in two of them may mean the same patient or not."""

_COLUMNS: Final = (
    "image_id", "row_id", "image", "image_name", "isic_id", "img_id", "img", "id", "name", "filename", "file_name",
    "file", "image_path", "path",
)  # fmt: skip
"""Usual names of columns with the ids of images, the most certain first."""
_SEVERAL: Final = -2


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


def plain_column(name: object) -> str:
    """Returns the name of a column in lower case without outer blanks, with `_` for inner ones."""
    return str(name).strip().lower().replace(" ", "_")


def usual_id_columns(columns: Iterable[object]) -> list[str]:
    """Returns those of `columns` that usually hold ids of images (`image_id`, `Image Name`), the most certain first."""
    found = [str(name) for name in columns if plain_column(name) in _COLUMNS]
    return sorted(found, key=lambda name: _COLUMNS.index(plain_column(name)))


class ImageIds:
    """Finds the images of a table by the names that people write for them.

    A name means the image with this id; else the one whose id differs in the ending of an image file alone; else the
    one whose id has the same `image_key`. A name that may mean several images means none of them.

    Args:
        ids: the ids of the images; an id may occur in several rows.
        paths: whether a name that means none of them may be a path to the only image of which one of both, the name
            and the id, is the end of the other: `train/nv/1.jpg` is `nv/1` or `1`, and `1.jpg` is `nv/1`, but
            `train/mel/1.jpg` is not `nv/1`. Of several ids at the end of a name, the longest counts. The image must
            not be one that another name means.
        sources: the data set of each image. Ids may begin with it (`ham10000/ISIC_1`, in a combination of data sets),
            and paths need not name it.
    """

    def __init__(self, ids: Iterable[object], *, paths: bool = False, sources: Iterable[object] | None = None) -> None:
        own = pd.Series([clean_name(name) for name in ids], dtype=object)
        own = own[~own.duplicated()]
        kinds: list[Callable[[str], str]] = [clean_name, without_suffix, image_key]
        self._kinds = [(kind, _rows_by(own.map(kind))) for kind in kinds]
        self._by_key: dict[str, int] = {}
        self._by_end: dict[str, int] = {}
        """Key of an id, and each of its ends -> its row, `_SEVERAL` if several ids have it."""
        if paths:
            prefixes = None if sources is None else [f"{clean_name(name).casefold()}/" for name in sources]
            for row, name in zip(own.index.tolist(), own, strict=True):
                key = image_key(name)
                key = key if prefixes is None else key.removeprefix(prefixes[row])
                self._by_key[key] = row if key not in self._by_key else _SEVERAL
                for end in _ends(key):
                    self._by_end[end] = row if end not in self._by_end else _SEVERAL

    def rows(self, names: Iterable[object]) -> npt.NDArray[np.int64]:
        """Returns the first row of the image of each of `names`, int64 (N,); -1 for names of none of the images."""
        found = self._found(names)
        return np.where(found == _SEVERAL, -1, found)

    def unclear(self, names: Iterable[object]) -> list[str]:
        """Returns those of `names` that may be paths to several of the images."""
        given = list(names)
        return [str(given[place]) for place in np.flatnonzero(self._found(given) == _SEVERAL)]

    def _found(self, names: Iterable[object]) -> npt.NDArray[np.int64]:
        codes, different = pd.factorize(pd.Series([clean_name(name) for name in names], dtype=object))
        found = np.full(len(different), -1, dtype=np.int64)
        for kind, row_of in self._kinds:
            rest = np.flatnonzero(found < 0)
            rows = pd.Series([kind(name) for name in different[rest]], dtype=object).map(row_of)
            found[rest] = rows.fillna(-1).to_numpy(np.int64)
        if self._by_end:
            rest = np.flatnonzero(found < 0)
            by_path = np.array([self._row_of_path(image_key(name)) for name in different[rest]], dtype=np.int64)
            found[rest] = np.where(np.isin(by_path, found[found >= 0]), -1, by_path)
        return found[codes]

    def _row_of_path(self, key: str) -> int:
        if key in self._by_end:
            return self._by_end[key]
        return next((self._by_key[end] for end in _ends(key) if end in self._by_key), -1)


def _rows_by(keys: pd.Series) -> pd.Series:
    """Returns the row of each key that no other row has, by key."""
    unique = keys[~keys.duplicated(keep=False)]
    return pd.Series(unique.index, index=unique.to_numpy(), dtype=np.int64)


def _ends(key: str) -> list[str]:
    """Returns `key` and what follows each of its slashes, the longest first."""
    parts = key.split("/")
    return ["/".join(parts[begin:]) for begin in range(len(parts))]
