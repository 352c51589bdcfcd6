"""The audit of a split: whether anything of one part occurs in another, and what the parts contain."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from lesion_exp.split import PARTS
from lesion_exp.split.groups import COPY_ID, known_pairs
from lesion_exp.split.identities import identity_warnings
from lesion_exp.split.pseudo_ids import meant_ids
from lesion_exp.split.seen_before import OF_LESIONS
from lesion_exp.taxonomy import IS_UNKNOWN, PSEUDO_RUN

MOST_CASES: Final = 10
"""Cases, images or classes that a result or a message lists."""
CROSSINGS: Final = {
    "patients": "patient_id",
    "lesions": "lesion_id",
    "identical_images": "sha256",
    "copies": COPY_ID,
    "groups": "group",
}
"""Kind of crossing -> the column whose values must not occur in two parts, if the table has it."""
MAX_PREVALENCE_SHIFT: Final = 0.05
"""Difference between a class's share in a part and in the data set above which there is a warning."""
MAX_SHORTFALL: Final = 0.02
"""Difference between a class's share in a part and the requested share above which there is a warning. A difference of
one image is always tolerated."""
SUMMARY_COLUMNS: Final = 80
"""Width of the summary in characters."""


@dataclass(frozen=True)
class Crossing:
    """The values of one kind that occur in more than one part."""

    count: int
    cases: Sequence[str]
    """The first of these values."""


@dataclass(frozen=True)
class Audit:
    """The result of the audit of a split."""

    crossings: dict[str, Crossing]
    """Kind (patients, lesions, identical_images, near_duplicate_pairs, groups) -> what occurs in several parts."""
    parts: dict[str, dict[str, Any]]
    """Part -> numbers of images, lesions, patients and groups, and `counts` and `prevalence` of each class."""
    test_rows_with_lesion_in_train: dict[str, float]
    """Share of test rows whose lesion is also in the training part: `all`, and for each class."""
    test_rows_with_image_in_train: dict[str, float]
    """Share of test rows whose image, byte by byte, is also in the training part: `all`, and for each class."""
    prevalence_shift: dict[str, dict[str, float]]
    """Part and class -> the class's share of the part minus its share of the data set's distinct images, without images
    of unknown classes."""
    num_images: int
    """Distinct images."""
    unknown: dict[str, int]
    """Class that the training part does not have -> its number of test images."""
    unnamed_images: int
    """Images with neither lesion id nor patient id, each of which counts as a separate lesion."""
    warnings: list[str] = field(default_factory=list)
    pseudo_labels: Mapping[str, Any] | None = None
    """The pseudo-labelled images of the training part, which `parts` does not count: their `images`, `counts` of each
    class, `thresholds`, `weight`, runs, and how many were `left_out` for which reason."""

    @property
    def passed(self) -> bool:
        """Whether nothing occurs in more than one part."""
        return all(crossing.count == 0 for crossing in self.crossings.values())

    def to_dict(self) -> dict[str, Any]:
        """Returns the audit as plain values, for JSON."""
        known = asdict(self)
        if self.pseudo_labels is None:
            del known["pseudo_labels"]
        return {"passed": self.passed, **known}

    def summary(self) -> str:
        """Returns a few lines of text, at most 80 characters wide."""
        sizes = ", ".join(f"{part} {counts['images']:,}" for part, counts in self.parts.items())
        lines = [f"split: {sizes} images"]
        if self.passed:
            lines.append(
                f"audit passed: no {'' if self._nothing_named else 'patient, lesion or '}image is in two parts"
            )
        else:
            crossing = [f"{c.count:,} {kind.replace('_', ' ')}" for kind, c in self.crossings.items() if c.count]
            lines.append("audit FAILED, these are in more than one part:")
            lines += [f"  - {entry}" for entry in crossing]
            lesion, image = self.test_rows_with_lesion_in_train["all"], self.test_rows_with_image_in_train["all"]
            lines.append(f"  {lesion:.1%} of the test rows have their lesion in train, {image:.1%} the same image")
        if self.unnamed_images:
            which = "all images have" if self._nothing_named else f"{self.unnamed_images:,} images have"
            lines.append(f"note: {which} neither lesion id nor patient id; each of them counts as a separate lesion")
        if self.unknown:
            named = ", ".join(f"{label} {count:,}" for label, count in self.unknown.items())
            lines.append(
                f"note: {sum(self.unknown.values()):,} test images are of classes that the training part does not have "
                f"({named}): they count as unknown, are left out of all closed-set metrics, and measure how well the "
                f"network detects unknown classes"
            )
        lines += self._pseudo_lines()
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(textwrap.fill(line, SUMMARY_COLUMNS, subsequent_indent="  ") for line in lines)

    def _pseudo_lines(self) -> list[str]:
        facts = self.pseudo_labels
        if facts is None:
            return []
        named = ", ".join(f"{label} {count:,}" for label, count in facts["counts"].items())
        images = f"{facts['images']:,} further training images"
        lines = [f"pseudo-labels: {images} with weight {facts['weight']:g} ({named})"]
        return lines + [f"  left out: {count:,}, since {reason}" for reason, count in facts["left_out"].items()]

    @property
    def _nothing_named(self) -> bool:
        return self.unnamed_images == self.num_images


def audit(
    table: pd.DataFrame,
    near_duplicate_threshold: float,
    shares: Mapping[str, float] | None = None,
    noticed: Sequence[str] = (),
) -> Audit:
    """Audits a split table.

    Args:
        table: a table with the columns of `dataset.table`, `sha256`, `phash`, `thumbnail`, `group`, `split` and
            possibly `is_unknown`.
        near_duplicate_threshold: see `near_duplicate_pairs`.
        shares: the requested share of every class in each part; see `shares_dealt`.
        noticed: further warnings, from before the table was split.

    Raises:
        ConfigError: the threshold is out of range.
    """
    crossings = {kind: _crossing(table, column) for kind, column in CROSSINGS.items() if column in table}
    crossings["near_duplicate_pairs"] = _near_duplicates_crossing(table, near_duplicate_threshold)
    if PSEUDO_RUN in table:  # they belong to no part that is counted or evaluated
        table = table[table[PSEUDO_RUN].isna()]
    known = table[~table[IS_UNKNOWN]] if IS_UNKNOWN in table else table
    unknown = table.drop(index=known.index)["label"].value_counts()
    shift = _prevalence_shift(known)
    present = [part for part in PARTS if (known["split"] == part).any()]
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
            *_warnings(known, present),
            *_shift_warnings({part: shift[part] for part in present if part != "train"}),
            *shortfalls(table, shares or {}),
        ],
    )


def shares_dealt(splitter: Any, table: pd.DataFrame) -> Mapping[str, float]:
    """Returns the share of the images that `splitter` is asked to deal to each part of `table`.

    The shares come from the method `shares_dealt` of the splitter. The result is empty for a splitter without that
    method, such as one that reads the parts from a file.
    """
    asked = getattr(splitter, "shares_dealt", None)
    return {} if asked is None else asked(table)


def shortfalls(table: pd.DataFrame, shares: Mapping[str, float]) -> list[str]:
    """Returns a sentence that names the parts whose share of all images, or of a class, differs from the requested one.

    Args:
        table: a split table, with `label`, `group` and `split`.
        shares: the requested share of every class in each part; see `shares_dealt`.

    Returns:
        A list with the sentence; empty if the shares were met.
    """
    dealt = table[table["split"].isin(list(shares))]
    rows_of = [("all images", dealt), *dealt.groupby("label", sort=True)]
    found = [words for name, rows in rows_of if (words := _in_words(str(name), rows, shares))]
    if not found:
        return []
    groups = dealt["group"].value_counts()
    reason = (
        f"groups stay together (the largest, that of image {groups.index[0]}, has {groups.iloc[0]:,} of {len(dealt):,} "
        f"images)"
        if groups.iloc[0] > 1
        else "each class is dealt in whole images"
    )
    more = f"; and {len(found) - MOST_CASES} more classes" if len(found) > MOST_CASES else ""
    return [f"the requested shares could not be met, because {reason}: {'; '.join(found[:MOST_CASES])}{more}"]


def _crossing(table: pd.DataFrame, column: str) -> Crossing:
    name = _known_names(table, column)
    if column in OF_LESIONS:
        meant = meant_ids(table, column)
        name = pd.concat([name, meant]) if len(meant) else name
    parts = table.loc[name.index, "split"].groupby(name.to_numpy()).nunique()
    torn = parts.index[parts > 1]
    return Crossing(len(torn), [str(case) for case in torn[:MOST_CASES]])


def _known_names(table: pd.DataFrame, column: str) -> pd.Series:
    """Returns the values of `column` as texts, without the rows that have none."""
    return table.loc[table[column].notna(), column].astype(str)


def _near_duplicates_crossing(table: pd.DataFrame, threshold: float) -> Crossing:
    """Returns the pairs of near-duplicates in two parts, without identical images, which are another kind."""
    images = table.groupby("image_id", sort=True).agg({"phash": "first", "thumbnail": "first", "sha256": "first"})
    counts = table.groupby(["image_id", "split"]).size().unstack(fill_value=0)
    parts = counts.reindex(columns=list(PARTS), fill_value=0) > 0
    present = parts.loc[images.index].to_numpy()
    pairs = known_pairs(images, threshold)
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    different = images["sha256"].to_numpy()[first] != images["sha256"].to_numpy()[second]
    several = (present[first] | present[second]).sum(axis=1) > 1
    crossing = np.flatnonzero(different & several)
    names = images.index.to_numpy()
    return Crossing(len(crossing), [f"{names[first[i]]} ~ {names[second[i]]}" for i in crossing[:MOST_CASES]])


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
    for part, shares in shift.items():
        label = max(shares, key=lambda name: abs(shares[name]))
        if abs(shares[label]) > MAX_PREVALENCE_SHIFT:
            warnings.append(
                f"{part} does not have the class shares of the data set: {label} differs by "
                f"{100 * shares[label]:+z.0f} percentage points; metrics on {part} may not hold for the whole data set"
            )
    return warnings


def _warnings(table: pd.DataFrame, present: Sequence[str]) -> list[str]:
    warnings = []
    for part in present:
        absent = sorted(set(table["label"].unique()) - set(table.loc[table["split"] == part, "label"].unique()))
        if absent:
            warnings.append(f"{part} has no image of {', '.join(absent)}")
    groups = table.groupby("label")["group"].nunique()
    warnings += [
        f"{label} has {number} group{'s' * (number > 1)} of images, too few for every part"
        for label, number in groups.items()
        if number < len(PARTS)
    ]
    return warnings


def _in_words(name: str, rows: pd.DataFrame, shares: Mapping[str, float]) -> str:
    counts = rows["split"].value_counts()
    off = {part: int(counts.get(part, 0)) - share * len(rows) for part, share in shares.items()}
    far = [part for part, images in off.items() if abs(images) > max(1.0, MAX_SHORTFALL * len(rows))]
    parts = [f"{counts.get(part, 0):,} instead of {shares[part] * len(rows):,.0f} in {part}" for part in far]
    return f"{name} {', '.join(parts)}" if parts else ""
