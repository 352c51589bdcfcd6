"""Encodes age, sex and site as numbers for a network, with an indicator for every missing value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp.dataset.table import UNKNOWN

AGE_SCALE: Final = 100.0
"""Age in years that is encoded as 1."""


@dataclass(frozen=True)
class MetadataEncoder:
    """Encodes metadata with columns for the sexes and sites of the training part.

    The columns are: age in centuries (0 if missing), age missing, one per sex, sex missing, one per site, site missing.
    A value that the training part does not have counts as missing.
    """

    sexes: Sequence[str]
    sites: Sequence[str]

    @classmethod
    def fit(cls, train: pd.DataFrame) -> MetadataEncoder:
        """Returns the encoder for the values that occur in `train`."""
        known = [sorted(set(train[column]) - {UNKNOWN}) for column in ("sex", "site")]
        return cls(sexes=tuple(known[0]), sites=tuple(known[1]))

    @property
    def width(self) -> int:
        """The number of columns."""
        return 2 + len(self.sexes) + 1 + len(self.sites) + 1

    def encode(self, table: pd.DataFrame) -> npt.NDArray[np.float32]:
        """Returns the encoded metadata of a table, float32 (N, width), with values between 0 and about 1."""
        age = table["age"].to_numpy(np.float32)
        columns = [np.nan_to_num(age / AGE_SCALE), np.isnan(age)]
        for column, known in (("sex", self.sexes), ("site", self.sites)):
            columns.extend((table[column] == value).to_numpy() for value in known)
            columns.append(~table[column].isin(list(known)).to_numpy())
        return np.stack(columns, axis=1).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Returns the encoder as plain values, for a checkpoint."""
        return {"sexes": list(self.sexes), "sites": list(self.sites)}
