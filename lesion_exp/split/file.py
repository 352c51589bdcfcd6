"""A split that is read from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from lesion_exp.errors import DataError, first_cases
from lesion_exp.image_ids import ImageIds
from lesion_exp.split import PARTS
from lesion_exp.text_table import read_table

KEYS: Final = ("row_id", "image_id")
"""Columns that may name the images, in order of preference."""


class File:
    """Reads the parts from a csv with the columns `image_id` (or `row_id`) and `split`.

    The file may name more images than the table has, so that it can be used with a filtered data set. Ids with and
    without the ending of an image file are alike, and so are those in upper and lower case, unless several images have
    them (see `ImageIds`).

    A file may have both columns, as manifests do. They must then name the same images, unless no `row_id` names any.

    Args:
        path: the csv, or the manifest that was stored with a run (csv or parquet).
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()

    def split(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns `table` with the column `split`.

        Raises:
            DataError: the file or a column is missing, a part is unknown, or some image is missing or named twice.
        """
        named = read_table(self.path, "the parts at split.path")
        key = self._key(table, named)
        if key is None or "split" not in named:
            raise DataError(
                f"expected the columns image_id and split in {self.path}, got {', '.join(map(str, named))}; rename its "
                f"columns"
            )
        wrong = sorted(set(named["split"].fillna("nothing").astype(str)) - set(PARTS))
        if wrong:
            raise DataError(
                f"expected train, val or test in the column split of {self.path}, got {', '.join(wrong)}; rename these "
                f"parts"
            )
        parts = _parts_of(table[key], named[key], named["split"])
        doubled = parts.index[parts.index.duplicated()]
        missing = table.loc[~table[key].isin(parts.index), key]
        if len(doubled) or len(missing):
            cases = [*(f"{name}: twice" for name in doubled), *(f"{name}: not in the file" for name in missing)]
            raise DataError(
                f"expected {self.path} to name each of the {len(table)} images once, but {len(cases)} differ:\n"
                f"{first_cases(cases)}\ncorrect the file, or leave images out with dataset.filter"
            )
        return self._with_all_parts(table.assign(split=parts.loc[table[key]].to_numpy()))

    def _key(self, table: pd.DataFrame, named: pd.DataFrame) -> str | None:
        """Returns the column that names the images; None if there is none.

        Raises:
            DataError: there are both, and they name different images, such as a `row_id` that numbers the rows.
        """
        keys = [key for key in KEYS if key in named]
        if len(keys) < 2:
            return keys[0] if keys else None
        images = table["image_id"].to_numpy()
        by_row, by_image = (ImageIds(table[key]).rows(named[key]) for key in keys)
        if (by_row < 0).all():
            return keys[1]
        differ = (by_row >= 0) & (by_image >= 0) & (images[by_row] != images[by_image])
        if differ.any():
            rows = named.loc[differ, keys].itertuples(index=False, name=None)
            cases = [f"row_id {row} is another image than image_id {image}" for row, image in rows]
            raise DataError(
                f"expected the columns row_id and image_id of {self.path} to name the same image in each row, but "
                f"{len(cases):,} of {len(named):,} rows differ:\n{first_cases(cases)}\nremove the column that does not "
                f"name the images"
            )
        return keys[0]

    def _with_all_parts(self, table: pd.DataFrame) -> pd.DataFrame:
        empty = [part for part in PARTS if part not in set(table["split"])]
        if empty:
            raise DataError(
                f"expected images in train, val and test, but {self.path} assigns none of the {len(table)} images to "
                f"{' or '.join(empty)}; correct the file, or choose split=grouped"
            )
        return table


def _parts_of(ids: pd.Series, names: pd.Series, parts: pd.Series) -> pd.Series:
    """Returns the part of each of `ids` that is among the `names` of a file, by id; an equal name counts before others
    that mean the same image."""
    rows = ImageIds(ids).rows(names)
    meant = ids.to_numpy()[rows]
    equal = meant == names.astype(str).to_numpy()
    kept = (rows >= 0) & (equal | ~np.isin(rows, rows[equal & (rows >= 0)]))
    return pd.Series(parts.to_numpy()[kept], index=meant[kept])
