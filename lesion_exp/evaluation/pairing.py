"""Alignment of predictions tables of several models, and pooling of runs that differ in their seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from lesion_exp.errors import DataError, first_cases
from lesion_exp.evaluation.intervals import Unit, percentile_interval, with_units
from lesion_exp.evaluation.predictions import FloatArray, check, classes_of


def aligned(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Returns the predictions tables, each with its own columns and with the rows in the order of the first.

    Args:
        tables: predictions tables, by the names of their models.

    Raises:
        DataError: a table is not a predictions table, or two differ in their classes, images, labels or lesions.
    """
    for table in tables.values():
        check(table)
    (first_name, first), *others = ((name, table.set_index(_key(table))) for name, table in tables.items())
    found = {first_name: tables[first_name].reset_index(drop=True)}
    for name, table in others:
        _refuse_other_classes(first_name, first, name, table)
        _refuse_other_images(first_name, first, name, table)
        table = table.loc[first.index]
        _refuse_other_values("label", first_name, first, name, table)
        _refuse_other_values("lesion_id", first_name, first, name, table)
        found[name] = table.reset_index()[list(tables[name])]
    return found


def with_most_patients(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Returns the first of the `aligned` tables that names the patients of most images; others, such as imported ones,
    may name none.
    """
    return max(tables, key=lambda table: int(table["patient_id"].notna().sum()) if "patient_id" in table else 0)


def with_shared_units(tables: Sequence[pd.DataFrame], unit: Unit) -> list[pd.DataFrame]:
    """Returns what `with_units` does for each of the `aligned` tables, with the patients of `with_most_patients`.

    Raises:
        ConfigError: the unit is patients, and no table names any.
    """
    if unit == "lesion":
        return list(tables)
    units = with_units(with_most_patients(tables), unit)["lesion_id"].to_numpy()
    return [table.assign(lesion_id=units) for table in tables]


def _key(table: pd.DataFrame) -> str:
    key = "row_id" if "row_id" in table else "image_id"
    if key not in table:
        raise DataError(
            f"expected a column row_id or image_id in a predictions table, got the columns "
            f"{', '.join(map(str, table.columns))}; add one of the two"
        )
    return key


def _refuse_other_classes(first_name: str, first: pd.DataFrame, name: str, table: pd.DataFrame) -> None:
    if classes_of(first) != classes_of(table):
        raise DataError(
            f"expected runs with the same classes, but {first_name} has {', '.join(classes_of(first))} and "
            f"{name} has {', '.join(classes_of(table))}; use runs of one task and one set of classes"
        )


def _refuse_other_images(first_name: str, first: pd.DataFrame, name: str, table: pd.DataFrame) -> None:
    missing, extra = first.index.difference(table.index), table.index.difference(first.index)
    if len(missing) or len(extra):
        cases = [
            f"{len(rows):,} images of {owner} are not in {other}, such as {rows[0]}"
            for rows, owner, other in ((missing, first_name, name), (extra, name, first_name))
            if len(rows)
        ]
        raise DataError(
            f"expected runs on the same images, but {first_name} has {len(first):,}, {name} has {len(table):,}, and "
            f"they share {len(first.index.intersection(table.index)):,}:\n{first_cases(cases)}\n"
            f"Use runs with the same split (the tag split_hash), or evaluate them on the same images first."
        )


def _refuse_other_values(column: str, first_name: str, first: pd.DataFrame, name: str, table: pd.DataFrame) -> None:
    if column not in first and column not in table:
        return
    if (column in first) != (column in table):
        without = name if column in first else first_name
        raise DataError(
            f"expected the column {column} in the predictions of both runs, but {without} has none; use runs of "
            f"one data set"
        )
    left, right = first[column], table[column]
    other = ~((left == right) | (left.isna() & right.isna())).to_numpy(dtype=bool)
    if other.any():
        cases = [
            f"{index}: {one} in {first_name}, {two} in {name}"
            for index, one, two in zip(first.index[other], left[other], right[other], strict=True)
        ]
        raise DataError(
            f"expected the same {column} of every image, but {len(cases):,} of {len(first):,} differ; use runs "
            f"of one task and one version of the data set:\n{first_cases(cases)}"
        )


@dataclass(frozen=True)
class Pooled:
    """A value with its 95% interval."""

    value: float
    low: float
    high: float
    error: float | None = None
    """Standard error; None for single runs, whose interval is a percentile bootstrap."""
    degrees: float = math.inf
    """Degrees of freedom of the standard error."""

    def p_of(self, value: float) -> float | None:
        """Returns the two-sided p-value of a result of `value` with this standard error; None for single runs."""
        if self.error is None:
            return None
        if self.error == 0:
            return 1.0 if value == 0 else 0.0
        return float(2 * stdtr(self.degrees, -abs(value) / self.error))


def pooled(values: FloatArray, draws: FloatArray, groups: Sequence[Sequence[int]], num_lesions: int) -> Pooled:
    """Returns the mean of a group of runs, or the difference of two groups, first minus second, with a 95% interval.

    Single runs have the percentile interval of the bootstrap. If a group has several runs, their variance is added: the
    standard error is the root of

        var(draws of the difference of means) + s^2 (1/k_1 + 1/k_2),
        s^2 = sum_g (k_g - 1) s_g^2 / sum_g (k_g - 1),

    with k_g runs and the standard deviation s_g in group g. The interval is that of Student's distribution with Welch
    and Satterthwaite's degrees of freedom (the bootstrap term has one less than the number of lesions). The variance
    between seeds is assumed to be the same in both groups, so a single run can be compared with several. Interactions
    of seeds and lesions are part of both terms: in simulations 94 to 99% of the intervals contain the true value.
    Sources: Bouthillier et al. 2021, arXiv:2103.03098 (on the variance between seeds); Satterthwaite 1946,
    doi:10.2307/3002019.

    Args:
        values: float64 (T,), the metric of each run.
        draws: float64 (T, D), the metric on paired bootstrap draws.
        groups: the positions of the runs of one group or of two.
        num_lesions: the number of lesions.
    """
    signs = (1, -1)
    means = [values[list(group)].mean() for group in groups]
    value = float(sum(sign * mean for sign, mean in zip(signs, means, strict=False)))
    drawn = sum(sign * draws[list(group)].mean(axis=0) for sign, group in zip(signs, groups, strict=False))
    assert isinstance(drawn, np.ndarray), "there is at least one group"
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return Pooled(value, *percentile_interval(drawn))
    squares = sum(np.square(values[list(group)] - mean).sum() for group, mean in zip(groups, means, strict=True))
    of_seeds = float(squares) / freedom * sum(1 / len(group) for group in groups)
    known = drawn[~np.isnan(drawn)]
    of_lesions = float(known.var(ddof=1)) if len(known) > 1 else math.nan
    variance = of_seeds + of_lesions
    if variance == 0:
        return Pooled(value, value, value, error=0.0)
    degrees = variance**2 / (of_seeds**2 / freedom + of_lesions**2 / max(num_lesions - 1, 1))
    half = float(stdtrit(degrees, 0.975)) * math.sqrt(variance)
    return Pooled(value, value - half, value + half, math.sqrt(variance), degrees)
