"""Whether anything of one part of a split reappears in another, and how the parts are made up."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.split import PARTS
from lesion_exp.split.identities import identity_warnings
from lesion_exp.split.near_duplicates import near_duplicate_pairs
from lesion_exp.taxonomy import IS_UNKNOWN

SHOWN: Final = 10
"""All images and classes that are named."""
TOLERANCE: Final = 0.02
"""Distance between a class's share in a part and the share asked for up to which nothing is said; one image is never
worth a word."""


def shares_dealt(splitter: Any, table: pd.DataFrame) -> Mapping[str, float]:
    """The share of each part that `splitter` deals of `table`, of the images in these parts together; empty for a
    splitter without such shares (its method `shares_dealt`), such as one that takes its parts from a file."""
    asked = getattr(splitter, "shares_dealt", None)
    return {} if asked is None else asked(table)


def shortfalls(table: pd.DataFrame, shares: Mapping[str, float]) -> list[str]:
    """A sentence that names the shares of the parts, of all images and of each class, that are not those asked for;
    empty where there are none.

    Args:
        table: a split table, with `label`, `group` and `split`.
        shares: what each part was to hold of every class; see `shares_dealt`.
    """
    dealt = table[table["split"].isin(list(shares))]
    rows_of = [("all images", dealt), *dealt.groupby("label", sort=True)]
    found = [words for name, rows in rows_of if (words := _in_words(str(name), rows, shares))]
    if not found:
        return []
    groups = dealt["group"].value_counts()
    more = f"; and {len(found) - SHOWN} more classes" if len(found) > SHOWN else ""
    return [
        f"the shares asked for could not be met, because groups stay whole (the largest, that of image "
        f"{groups.index[0]}, holds {groups.iloc[0]:,} of {len(dealt):,} images): {'; '.join(found[:SHOWN])}{more}"
    ]


def _in_words(name: str, rows: pd.DataFrame, shares: Mapping[str, float]) -> str:
    counts = rows["split"].value_counts()
    off = {part: int(counts.get(part, 0)) - share * len(rows) for part, share in shares.items()}
    far = [part for part, images in off.items() if abs(images) > max(1.0, TOLERANCE * len(rows))]
    parts = [f"{counts.get(part, 0):,} instead of {shares[part] * len(rows):,.0f} in {part}" for part in far]
    return f"{name} {', '.join(parts)}" if parts else ""


SHOWN_CASES: Final = 10
CROSSINGS: Final = {
    "patients": "patient_id",
    "lesions": "lesion_id",
    "identical_images": "sha256",
    "groups": "group",
}
"""What must not lie in two parts, and the column that names it."""
MAX_PREVALENCE_SHIFT: Final = 0.05
"""Difference between a class's share in a part and in the data set from which on there is a warning."""
SUMMARY_COLUMNS: Final = 80


@dataclass(frozen=True)
class Crossing:
    """Things of one kind that lie in more than one part."""

    count: int
    cases: Sequence[str]


@dataclass(frozen=True)
class Audit:
    """The certificate of a split."""

    crossings: dict[str, Crossing]
    """By kind: patients, lesions, identical_images, near_duplicate_pairs, groups."""
    parts: dict[str, dict[str, Any]]
    """By part: images, lesions, patients, and `prevalence` (share of each class)."""
    test_rows_with_lesion_in_train: dict[str, float]
    """Share of test rows whose lesion is also trained on: `all`, and by class."""
    test_rows_with_image_in_train: dict[str, float]
    """Share of test rows whose identical image is also trained on: `all`, and by class."""
    prevalence_shift: dict[str, dict[str, float]]
    """By part and class: its share of the part less its share of the data set's different images; unknown ones do not
    count."""
    num_images: int
    """Different images."""
    unknown: dict[str, int]
    """Test images of each class that the training part does not have, by class; they count as unknown."""
    unnamed_images: int
    """Images with neither lesion nor patient, each of which counts as a lesion of its own."""
    warnings: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing crosses."""
        return all(crossing.count == 0 for crossing in self.crossings.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"passed": self.passed, **asdict(self)}

    def summary(self) -> str:
        """A few lines for a person, at most 80 columns wide."""
        sizes = ", ".join(f"{part} {counts['images']:,}" for part, counts in self.parts.items())
        lines = [f"split: {sizes} images"]
        if self.passed:
            lines.append(
                f"audit passed: no {'' if self._nothing_named else 'patient, lesion or '}picture lies in two parts"
            )
        else:
            crossing = [f"{c.count:,} {kind.replace('_', ' ')}" for kind, c in self.crossings.items() if c.count]
            lines.append("audit FAILED, in more than one part lie:")
            lines += [f"  - {entry}" for entry in crossing]
            lesion, image = self.test_rows_with_lesion_in_train["all"], self.test_rows_with_image_in_train["all"]
            lines.append(f"  {lesion:.1%} of the test rows have their lesion in train, {image:.1%} their very image")
        if self.unnamed_images:
            which = "all images name" if self._nothing_named else f"{self.unnamed_images:,} images name"
            lines.append(f"note: {which} neither lesion nor patient; each of them counts as a lesion of its own")
        if self.unknown:
            named = ", ".join(f"{label} {count:,}" for label, count in self.unknown.items())
            lines.append(
                f"note: {sum(self.unknown.values()):,} test images are of classes that the training part does not have "
                f"({named}): they count as unknown, are left out of all closed-set metrics, and show how well the "
                f"network notices what it does not know"
            )
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(textwrap.fill(line, SUMMARY_COLUMNS, subsequent_indent="  ") for line in lines)

    @property
    def _nothing_named(self) -> bool:
        return self.unnamed_images == self.num_images


def audit(
    table: pd.DataFrame,
    near_duplicate_threshold: float,
    shares: Mapping[str, float] | None = None,
    noticed: Sequence[str] = (),
) -> Audit:
    """The audit of a split table.

    Args:
        table: with the columns of `dataset.table`, hashes, `group`, `split` and perhaps `is_unknown`.
        near_duplicate_threshold: see `near_duplicate_pairs`.
        shares: what each part was to hold of every class, where parts were dealt; see `shortfall.shares_dealt`.
        noticed: warnings about the table from before it was split.

    Raises:
        ConfigError: see `near_duplicate_pairs`.
    """
    crossings = {kind: _crossing(table, column) for kind, column in CROSSINGS.items()}
    crossings["near_duplicate_pairs"] = _near_duplicates_crossing(table, near_duplicate_threshold)
    known = table[~table[IS_UNKNOWN]] if IS_UNKNOWN in table else table
    unknown = table.drop(index=known.index)["label"].value_counts()
    shift = _prevalence_shift(known)
    images = table.drop_duplicates("image_id")
    return Audit(
        crossings=crossings,
        parts={part: _make_up(table[table["split"] == part], table) for part in PARTS},
        test_rows_with_lesion_in_train=_shared_with_train(table, "lesion_id"),
        test_rows_with_image_in_train=_shared_with_train(table, "sha256"),
        prevalence_shift=shift,
        num_images=len(images),
        unknown={str(label): int(unknown[label]) for label in sorted(unknown.index)},
        unnamed_images=int((images["lesion_id"].isna() & images["patient_id"].isna()).sum()),
        warnings=[
            *noticed,
            *identity_warnings(table),
            *_warnings(known),
            *_shift_warnings(shift),
            *shortfalls(table, shares or {}),
        ],
    )


def _crossing(table: pd.DataFrame, column: str) -> Crossing:
    name = _known_names(table, column)
    parts = table.loc[name.index, "split"].groupby(name).nunique()
    torn = parts.index[parts > 1]
    return Crossing(len(torn), [str(case) for case in torn[:SHOWN_CASES]])


def _known_names(table: pd.DataFrame, column: str) -> pd.Series:
    """The values of `column` as text, rows without one left out."""
    return table.loc[table[column].notna(), column].astype(str)


def _near_duplicates_crossing(table: pd.DataFrame, threshold: float) -> Crossing:
    """Pairs of different images; copies of one image count among the identical ones."""
    images = table.groupby("image_id", sort=True).agg({"phash": "first", "thumbnail": "first", "sha256": "first"})
    counts = table.groupby(["image_id", "split"]).size().unstack(fill_value=0)
    parts = counts.reindex(columns=list(PARTS), fill_value=0) > 0
    present = parts.loc[images.index].to_numpy()
    pairs = near_duplicate_pairs(images, threshold)
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    different = images["sha256"].to_numpy()[first] != images["sha256"].to_numpy()[second]
    several = (present[first] | present[second]).sum(axis=1) > 1
    crossing = np.flatnonzero(different & several)
    names = images.index.to_numpy()
    return Crossing(len(crossing), [f"{names[first[i]]} ~ {names[second[i]]}" for i in crossing[:SHOWN_CASES]])


def _make_up(part: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    classes = sorted(table["label"].unique())
    counts = part["label"].value_counts()
    lesions = part["lesion_id"].nunique() + int(part["lesion_id"].isna().sum())
    return {
        "images": len(part),
        "lesions": int(lesions),
        "patients": int(part["patient_id"].nunique()),
        "groups": int(part["group"].nunique()),
        "counts": {name: int(counts.get(name, 0)) for name in classes},
        "prevalence": {name: float(counts.get(name, 0) / max(len(part), 1)) for name in classes},
    }


def _shared_with_train(table: pd.DataFrame, column: str) -> dict[str, float]:
    names = _known_names(table, column)
    codes, known = pd.factorize(names)
    trained = np.zeros(len(known), dtype=bool)
    trained[codes[(table.loc[names.index, "split"] == "train").to_numpy()]] = True
    test = table[table["split"] == "test"]
    shared = pd.Series(trained[codes], index=names.index).reindex(test.index, fill_value=False)
    by_class = shared.groupby(test["label"]).mean()
    return {"all": float(shared.mean()) if len(test) else 0.0} | {str(k): float(v) for k, v in by_class.items()}


def _prevalence_shift(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    natural = table.drop_duplicates("image_id")["label"].value_counts(normalize=True)
    shifts = {}
    for part in PARTS:
        shares = table.loc[table["split"] == part, "label"].value_counts(normalize=True)
        shifts[part] = {str(label): float(shares.get(label, 0.0) - natural[label]) for label in sorted(natural.index)}
    return shifts


def _shift_warnings(shift: dict[str, dict[str, float]]) -> list[str]:
    warnings = []
    for part in ("val", "test"):  # what is scored
        shares = shift[part]
        label = max(shares, key=lambda name: abs(shares[name]))
        if abs(shares[label]) > MAX_PREVALENCE_SHIFT:
            warnings.append(
                f"{part} does not have the class shares of the data set: {label} differs by "
                f"{100 * shares[label]:+.0f} percentage points; scores on it do not hold for the data set's mix"
            )
    return warnings


def _warnings(table: pd.DataFrame) -> list[str]:
    warnings = []
    for part in PARTS:
        absent = sorted(set(table["label"].unique()) - set(table.loc[table["split"] == part, "label"].unique()))
        if absent:
            warnings.append(f"no image of {', '.join(absent)} in {part}")
    groups = table.groupby("label")["group"].nunique()
    warnings += [
        f"{label} has {number} group(s): too few for every part"
        for label, number in groups.items()
        if number < len(PARTS)
    ]
    return warnings
