"""The csv layouts of the ISIC challenges, of submissions and of ground truths: the column of ids, and the classes.

| format | ids | classes |
|---|---|---|
| `isic2018` | `image` | MEL, NV, BCC, AKIEC, BKL, DF, VASC |
| `isic2019` | `image` | MEL, NV, BCC, AK, BKL, DF, VASC, SCC, UNK |
| `isic2020` | `image_name` | `target`, the probability of `malignant` |
| `isic2024` | `isic_id` | `target`, the probability of `malignant` |
| `milk10k` | `lesion_id` | AKIEC, BCC, BEN_OTH, BKL, DF, INF, MAL_OTH, MEL, NV, SCCKA, VASC |
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from lesion_exp import taxonomy
from lesion_exp.choices import CHALLENGES
from lesion_exp.errors import ConfigError, first_cases
from lesion_exp.evaluation.predictions import FloatArray

TARGET: Final = "target"
MALIGNANT: Final = "malignant"
BENIGN: Final = "benign"


@dataclass(frozen=True)
class ChallengeFormat:
    """The layout of the csv files of a challenge."""

    name: str
    key: str
    """The column with the ids."""
    columns: tuple[str, ...]
    """The columns with the classes, in their order."""

    @property
    def of_lesions(self) -> bool:
        """Whether a row is a lesion, and not an image."""
        return self.key == "lesion_id"

    @property
    def classes(self) -> dict[str, str]:
        """Column -> class."""
        return {column: MALIGNANT if column == TARGET else column.lower() for column in self.columns}

    def submission(self, ids: Sequence[str], probs: FloatArray, classes: Sequence[str]) -> pd.DataFrame:
        """Returns a submission: the ids and a column for each class of the challenge.

        The probability of a column is the sum over the classes that belong to it by the taxonomy, and 0 where none
        does. `target` is without the classes that are `undecided`. Values are from 0 to 1, also where the rounding of
        float32 makes a sum greater.

        Args:
            ids: the names of images, or of lesions.
            probs: float (N, C).
            classes: the C classes of `probs`.

        Raises:
            ConfigError: a class belongs to no column, or to several.
        """
        place = self.places(classes)
        values = np.zeros((len(probs), len(self.columns)))
        for number, column in enumerate(place):
            if column is not None:
                values[:, self.columns.index(column)] += probs[:, number]
        columns = np.clip(values, 0, 1).T
        return pd.DataFrame({self.key: list(ids), **dict(zip(self.columns, columns, strict=True))})

    def undecided(self, classes: Sequence[str]) -> list[str]:
        """Returns those of `classes` whose lesions may be malignant or benign by the taxonomy (`unk`, `misc`).

        For a format with `target` alone they count as not malignant; other formats have no such classes.
        """
        if TARGET not in self.columns:
            return []
        return [name for name in classes if taxonomy.code_of(name) and taxonomy.malignancy(name) is None]

    def places(self, classes: Sequence[str]) -> list[str | None]:
        """Returns the column of each of `classes`; None for those of a format with `target` alone that are benign or
        `undecided`.

        Raises:
            ConfigError: see `submission`.
        """
        by_class = {code: column for column, code in self.classes.items()}
        known = [*by_class, BENIGN] if TARGET in self.columns else [*by_class]
        found = {name: taxonomy.map_label(name, known, classes) for name in classes}
        undecided = self.undecided(classes)
        without = [name for name, target in found.items() if target is None and name not in undecided]
        if without:
            raise ConfigError(
                f"expected classes that belong to one column of format={self.name} each ({', '.join(self.columns)}), "
                f"but by the taxonomy these belong to none or to several:\n{first_cases(without)}\nuse a run that was "
                f"trained on the classes of this challenge"
            )
        return [by_class.get(str(found[name])) for name in classes]


def _formats() -> dict[str, ChallengeFormat]:
    of_2018 = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    of_2019 = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
    milk10k = ("AKIEC", "BCC", "BEN_OTH", "BKL", "DF", "INF", "MAL_OTH", "MEL", "NV", "SCCKA", "VASC")
    layouts = (
        ("image", of_2018),
        ("image", of_2019),
        ("image_name", (TARGET,)),
        ("isic_id", (TARGET,)),
        ("lesion_id", milk10k),
    )
    return {name: ChallengeFormat(name, *layout) for name, layout in zip(CHALLENGES, layouts, strict=True)}


FORMATS: Final[Mapping[str, ChallengeFormat]] = _formats()


def format_of(columns: Collection[str]) -> ChallengeFormat | None:
    """Returns the format of a file with these `columns`; None if it has another one.

    Each class of the format must have its column. UNK may be missing from a submission to ISIC 2019.
    """
    for found in FORMATS.values():
        needed = {found.key, *found.columns} - {"UNK"}
        if needed <= set(columns) and not (found.name == "isic2018" and "SCC" in columns):
            return found
    return None
