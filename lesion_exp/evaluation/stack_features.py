"""The features of a stacked ensemble: predictions of its members, the patient's context, and metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
import pandas as pd

from lesion_exp.errors import ConfigError, DataError, first_cases
from lesion_exp.evaluation.calibrator import log_probs
from lesion_exp.evaluation.malignant_view import MALIGNANT, malignant_classes
from lesion_exp.evaluation.patient_context import STATISTICS, PatientContext
from lesion_exp.evaluation.predictions import FloatArray, classes_of, probabilities
from lesion_exp.taxonomy import malignancy

PREDICTIONS: Final = "predictions"
CONTEXT: Final = "context"
METADATA: Final = "metadata"
_SMALLEST: Final = 1e-6
"""Smaller probabilities are replaced by this one: log(1e-30) would outweigh all other values."""
_MISSING_TEXTS: Final = frozenset({"", "unknown"})
_MOST_TEXTS: Final = 30
"""Largest number of different texts in a column, each of which is a feature."""
_LESIONS: Final = "number of the patient's lesions"


@dataclass(frozen=True)
class Feature:
    """A column of the matrix of features."""

    name: str
    group: str
    """`predictions`, `context` or `metadata`."""
    source: str
    """The origin of the feature. Features of one source are permuted together to measure their importance."""


@dataclass(frozen=True)
class StackFeatures:
    """The features that a stacked ensemble reads, with everything that was fitted for them.

    - `predictions`: the centred log-probabilities of each member, with probabilities of at least 1e-6;
    - `context`: for the mean of these over the members, for the log odds of malignancy, and for each number of the
      metadata: difference, z-score and rank among the patient's other lesions (`PatientContext.compared`), and the
      logarithm of the number of the patient's lesions;
    - `metadata`: numbers as they are, and 0 or 1 for each text of the columns of texts. Missing values are NaN, and so
      are texts that did not occur where the ensemble was fitted.
    """

    classes: tuple[str, ...]
    members: int
    groups: tuple[str, ...]
    numbers: tuple[str, ...]
    """Columns of numbers."""
    texts: Mapping[str, tuple[str, ...]]
    """Columns of texts -> the texts that occurred."""

    @classmethod
    def fit(
        cls, tables: Sequence[pd.DataFrame], groups: Sequence[str], columns: Sequence[str]
    ) -> tuple[Self, list[str]]:
        """Returns the features of `groups` that the aligned `tables` of the members have, and sentences about those
        that they do not have.

        Args:
            tables: the predictions tables of the members, with the same rows.
            groups: those of `predictions`, `context` and `metadata` that are wanted.
            columns: columns of metadata.

        Raises:
            ConfigError: none of the wanted features exists.
            DataError: a column has too many different texts.
        """
        first, kept, notes = tables[0], list(groups), []
        context = PatientContext.of(first)
        if CONTEXT in kept:
            if context.is_empty:
                kept.remove(CONTEXT)
                why = "no patient has two lesions" if context.known.any() else "no image has a patient_id"
                notes.append(f"the context of a patient's other lesions is left out: {why}")
            elif not context.known.all():
                missing = np.count_nonzero(~context.known)
                notes.append(
                    f"{missing:,} of {len(first):,} images have no patient_id: their context is a missing value, and "
                    f"each of their lesions is a group of its own"
                )
        numbers: list[str] = []
        texts: dict[str, tuple[str, ...]] = {}
        for column in columns if {METADATA, CONTEXT} & set(kept) else ():
            values = _numbers(first[column])
            if values is not None:
                if not np.isnan(values).all():
                    numbers.append(column)
                    continue
            elif known := tuple(sorted(set(_texts(first[column])) - _MISSING_TEXTS)):
                if len(known) > _MOST_TEXTS:
                    raise DataError(
                        f"expected at most {_MOST_TEXTS} different texts in the column {column}, got {len(known)}, "
                        f"such as:\n{first_cases(known, 3)}\nleave it out of stack_columns="
                    )
                texts[column] = known
                continue
            if METADATA in kept:
                notes.append(f"the column {column} is left out: no image has a value")
        if METADATA in kept and not numbers and not texts:
            kept.remove(METADATA)
        if not kept:
            raise ConfigError(
                f"expected features that the data have, got stack_features=[{','.join(groups)}]: {'; '.join(notes)}; "
                f"add predictions"
            )
        return cls(classes_of(first), len(tables), tuple(kept), tuple(numbers), texts), notes

    @property
    def features(self) -> list[Feature]:
        """The features in the order of the columns of `matrix`."""
        found: list[Feature] = []
        if PREDICTIONS in self.groups:
            for member in range(1, self.members + 1):
                source = f"predictions of member {member}" if self.members > 1 else "predictions"
                found += [Feature(f"log p({name}), member {member}", PREDICTIONS, source) for name in self.classes]
        if CONTEXT in self.groups:
            for source in [*self._scores, *self.numbers]:
                found += [Feature(f"{source}, {kind}", CONTEXT, f"context: {source}") for kind in STATISTICS]
            found.append(Feature(f"log of the {_LESIONS}", CONTEXT, f"context: {_LESIONS}"))
        if METADATA in self.groups:
            found += [Feature(name, METADATA, name) for name in self.numbers]
            for name, known in self.texts.items():
                found += [Feature(f"{name}: {text}", METADATA, name) for text in known]
        return found

    def matrix(self, tables: Sequence[pd.DataFrame]) -> FloatArray:
        """Returns the features of the aligned tables of the members, float64 (N, features), NaN where missing.

        The context of an image is that of its patient's other lesions in these tables; labels are not read.

        Raises:
            DataError: the tables have other classes, or lack a column.
        """
        first = tables[0]
        assert len(tables) == self.members, "a table for each member"
        if classes_of(first) != self.classes:
            raise DataError(
                f"expected predictions of the classes {', '.join(self.classes)}, got {', '.join(classes_of(first))}; "
                f"combine runs of these classes"
            )
        lacking = [name for name in (*self.numbers, *self.texts) if name not in first]
        if lacking:
            raise DataError(
                f"expected the columns {', '.join(lacking)}, which the stacked ensemble reads beside the predictions, "
                f"got none of that name; a column without values is enough"
            )
        logits = [_centred(table) for table in tables]
        numbers = {name: _as_numbers(first[name]) for name in self.numbers}
        blocks: list[FloatArray] = list(logits) if PREDICTIONS in self.groups else []
        if CONTEXT in self.groups:
            context = PatientContext.of(first)
            scores = self._score_values(np.mean(logits, axis=0), np.mean([probabilities(t) for t in tables], axis=0))
            blocks += [context.compared(values) for values in (*scores, *numbers.values())]
            blocks.append(np.log(context.num_lesions)[:, None])
        if METADATA in self.groups:
            blocks += [values[:, None] for values in numbers.values()]
            blocks += [_indicators(first[name], known) for name, known in self.texts.items()]
        return np.concatenate(blocks, axis=1)

    def missing(self, table: pd.DataFrame) -> list[str]:
        """Returns sentences about missing values in `table`, which has the columns of the features."""
        notes, context = [], PatientContext.of(table)
        if CONTEXT in self.groups:
            if context.is_empty:
                why = "no patient has two lesions here" if context.known.any() else "no image has a patient_id"
                notes.append(f"the context of a patient's other lesions is a missing value: {why}")
            elif not context.known.all():
                notes.append(f"{np.count_nonzero(~context.known):,} of {len(table):,} images have no patient_id: their "
                             f"context is a missing value")  # fmt: skip
        for name in (*self.numbers, *self.texts):
            known = self.texts.get(name)
            values = _as_numbers(table[name])[:, None] if known is None else _indicators(table[name], known)
            if count := np.count_nonzero(np.isnan(values[:, 0])):
                notes.append(f"{name} is missing, or unknown to the ensemble, in {count:,} of {len(table):,} images")
        return notes

    @property
    def _scores(self) -> list[str]:
        """Names of the scores that are compared with the patient's other lesions; one score suffices for two
        classes.
        """
        if len(self.classes) == 2:
            malignant = [name for name in self.classes if name == MALIGNANT or malignancy(name)]
            return [malignant[0] if malignant else self.classes[-1]]
        return [*self.classes, *([MALIGNANT] if malignant_classes(self.classes) is not None else [])]

    def _score_values(self, logits: FloatArray, probs: FloatArray) -> Iterator[FloatArray]:
        names = self._scores
        yield from (logits[:, self.classes.index(name)] for name in names if name in self.classes)
        kinds = malignant_classes(self.classes)
        if names[-1] not in self.classes and kinds is not None:
            malignant = np.clip(probs[:, kinds].sum(axis=1), _SMALLEST, 1 - _SMALLEST)
            yield np.log(malignant) - np.log1p(-malignant)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, for JSON."""
        return {**asdict(self), "texts": {name: list(known) for name, known in self.texts.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restores the values of `to_dict`."""
        texts = {str(name): tuple(map(str, known)) for name, known in values["texts"].items()}
        names = {key: tuple(map(str, values[key])) for key in ("classes", "groups", "numbers")}
        return cls(names["classes"], int(values["members"]), names["groups"], names["numbers"], texts)


def _centred(table: pd.DataFrame) -> FloatArray:
    logs = log_probs(np.clip(probabilities(table), _SMALLEST, 1.0))
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))


def _numbers(values: pd.Series) -> FloatArray | None:
    """Returns the values of a column of numbers or truth values, NaN where missing; None for a column of texts."""
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_numeric_dtype(values.dtype):
        return _as_numbers(values)
    known = values[~values.isin(_MISSING_TEXTS) & values.notna()]
    return _as_numbers(values) if len(known) and known.isin([True, False]).all() else None


def _as_numbers(values: pd.Series) -> FloatArray:
    plain = values.replace({True: 1.0, False: 0.0}) if values.dtype == object else values
    numbers = pd.to_numeric(plain, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _texts(values: pd.Series) -> list[str]:
    return ["" if pd.isna(value) else str(value).strip().lower() for value in values]


def _indicators(values: pd.Series, known: Sequence[str]) -> FloatArray:
    """Returns 1 in the column of the text of each image and else 0, float64 (N, texts); NaN for missing and other
    texts.
    """
    texts = np.asarray(_texts(values), dtype=object)
    hits: FloatArray = (texts[:, None] == np.asarray(known, dtype=object)[None, :]).astype(np.float64)
    hits[~hits.any(axis=1)] = np.nan
    return hits
