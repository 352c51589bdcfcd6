"""A split that is read from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd

from lesion_exp.errors import DataError, first_cases
from lesion_exp.split import PARTS
from lesion_exp.split.assign import require_parts
from lesion_exp.text_table import read_csv

KEYS: Final = ("row_id", "image_id")
"""Columns that may name the images, in order of preference."""


class File:
    """Reads the parts from a csv with the columns `image_id` (or `row_id`) and `split`.

    The file may name more images than the table has, so that it can be used with a filtered data set.

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
        named = self._read()
        key = next((key for key in KEYS if key in named), None)
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
        parts = named.assign(**{key: named[key].astype(str)}).set_index(key)["split"]
        doubled = parts.index[parts.index.duplicated()]
        missing = table.loc[~table[key].isin(parts.index), key]
        if len(doubled) or len(missing):
            cases = [*(f"{name}: twice" for name in doubled), *(f"{name}: not in the file" for name in missing)]
            raise DataError(
                f"expected {self.path} to name each of the {len(table)} images once, but {len(cases)} differ:\n"
                f"{first_cases(cases)}\ncorrect the file, or leave images out with dataset.filter"
            )
        return require_parts(table.assign(split=parts.loc[table[key]].to_numpy()))

    def _read(self) -> pd.DataFrame:
        if not self.path.is_file():
            raise DataError(
                f"expected the csv of the split at split.path, but there is no file at {self.path}; correct the path"
            )
        if self.path.suffix != ".parquet":
            return read_csv(str(self.path))
        try:
            return pd.read_parquet(self.path)
        except (ValueError, OSError) as error:
            raise DataError(
                f"expected a manifest at {self.path}, but it cannot be read: {error}; name a csv, or the file "
                f"split/manifest.parquet of a run"
            ) from error
