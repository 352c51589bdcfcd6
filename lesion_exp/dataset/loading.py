"""Loads the checked and filtered table of a data set, and counts the images after every step."""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from lesion_exp import taxonomy
from lesion_exp.dataset.findings import Finding, collected_findings, record_finding
from lesion_exp.dataset.missing_values import is_missing
from lesion_exp.dataset.path_patterns import as_override
from lesion_exp.dataset.row_filter import filter_rows
from lesion_exp.dataset.table import STANDARD_COLUMNS, UNKNOWN, UNLABELLED
from lesion_exp.errors import ConfigError, DataError, MissingPicturesError, first_cases

log = logging.getLogger(__name__)

OnBad = Literal["error", "skip"]
_Describe = Callable[[pd.DataFrame], tuple[Sequence[str], str]]
"""A function from rows with a fault to one line per case, and an explanation of all cases."""
_MAPPED: Final = frozenset({"csv", "folder"})
"""Sources whose labels `dataset.labels` maps to classes."""
SKIP_HINT: Final = "set dataset.on_bad_image=skip to go on without them (what is left out is logged)"
_SEVERAL_LABELS: Final = "image_id with several labels"
_DOUBLED: Final = "doubled image_id"
_NO_FILE: Final = "no image file"
_NO_LABEL: Final = "unknown label"


@dataclass(frozen=True)
class Step:
    """The size of the table after one step between the files and the images that are used."""

    step: str
    images: int
    lesions: int
    """Lesions; an image without a lesion id counts as one."""
    patients: int
    """Patients with an id."""


@dataclass
class Flow:
    """The flow of images, as in a CONSORT diagram: the counts after each step, and the images that were left out."""

    steps: list[Step] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Image id and reason of each image that was left out."""
    findings: list[Finding] = field(default_factory=list)
    """Findings about the files, such as rows without a file."""
    read_counts: dict[str, int] = field(default_factory=dict)
    """Images per class in the data set, before any filter."""

    def note(self, step: str, table: pd.DataFrame) -> None:
        """Records the size of the table after a step."""
        singles = int(table["lesion_id"].isna().sum())
        lesions, patients = int(table["lesion_id"].nunique()) + singles, int(table["patient_id"].nunique())
        self.steps.append(Step(step, len(table), lesions, patients))


@dataclass(frozen=True)
class TableOptions:
    """The keys of `conf/dataset/base.yaml` that apply to the table of every data set."""

    filter: str | None = None
    drop_unknown: bool = False
    on_bad_image: OnBad = "error"
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the types and ranges of the values.

        Raises:
            ConfigError: a value is of the wrong type or out of range.
        """
        whole = isinstance(self.limit, int) and not isinstance(self.limit, bool) and self.limit >= 1
        seeded = isinstance(self.seed, int) and not isinstance(self.seed, bool) and self.seed >= 0
        for key, right, expected in (
            ("filter", self.filter is None or isinstance(self.filter, str), "an expression (text) or null"),
            ("drop_unknown", isinstance(self.drop_unknown, bool), "true or false"),
            ("on_bad_image", self.on_bad_image in get_args(OnBad), "error or skip"),
            ("limit", self.limit is None or whole, "a count of lesions of at least 1, or null"),
            ("seed", seeded, "a whole number of at least 0"),
        ):
            if not right:
                raise ConfigError(f"expected dataset.{key} to be {expected}, got {getattr(self, key)!r}; correct it")


def load_table(
    read: Callable[[], pd.DataFrame],
    options: TableOptions,
    flow: Flow,
    *,
    needs_labels: bool = True,
    needs_images: bool = True,
) -> pd.DataFrame:
    """Reads the table of a data set, checks it, and applies the filter and the limit.

    Args:
        read: the data set's reader, without arguments.
        options: what to leave out.
        flow: receives the counts after every step.
        needs_labels: False keeps images without a known label, with the label `UNLABELLED`.
        needs_images: False also keeps rows without an image file.

    Raises:
        DataError: the table has duplicate ids, missing files or unknown labels and `on_bad_image` is `error`; or no
            image, or none of some class, is left.
        ConfigError: the filter cannot be evaluated.
    """
    with collected_findings() as found:
        table = read()
        _check_columns(table)
        _warn_of_synonyms(table)
    flow.findings.extend(found)
    flow.note("read", table)
    if not needs_labels:
        table = table.assign(label=table["label"].where(table["label"].notna(), UNLABELLED))
    flow.read_counts.update({str(label): int(count) for label, count in table["label"].value_counts().items()})
    whole = table
    missing = table["image_path"].isna() & needs_images
    if missing.all():
        raise DataError(
            f"expected image files for the {len(table):,} rows of the data set, but none was found; set "
            f"dataset.root=DIR to the folder that holds the images too, zipped or unpacked"
        )
    if options.on_bad_image == "error":
        _check_usable(table, missing)
    else:
        table = _usable(table, missing, flow)
    flow.note("with a readable row, an image file and a known label", table)
    if table.empty:
        raise DataError(_nothing_left(options, flow))
    _check_classes_kept(whole, table, options, flow)
    if options.filter:
        table = filter_rows(table, options.filter)
        flow.note(f"filter: {options.filter}", table)
    if options.drop_unknown:
        table = _drop_unknown(table)
        flow.note("drop_unknown: age, sex and site known", table)
    if options.limit is not None:
        table = limit_lesions(table, options.limit, options.seed)
        flow.note(f"limit: {options.limit} lesions", table)
    if table.empty:
        raise DataError(_nothing_left(options, flow))
    return table.reset_index(drop=True)


def _check_columns(table: pd.DataFrame) -> None:
    """Checks that a user's own reader returned a table with all standard columns, and with texts as labels."""
    if not isinstance(table, pd.DataFrame):
        raise DataError(
            f"expected the reader of the data set to return a table, got {type(table).__name__}; end it with "
            f"return lesion_exp.dataset.table.standardize(table, name)"
        )
    lacking = [name for name in STANDARD_COLUMNS if name not in table]
    if lacking:
        raise DataError(
            f"expected the reader of the data set to return a table with the columns {', '.join(STANDARD_COLUMNS)}, "
            f"but it has no {', '.join(lacking)}; return lesion_exp.dataset.table.standardize(table, name), which adds "
            f"the columns that are missing"
        )
    texts = table["label"].map(lambda label: isinstance(label, str)) | table["label"].isna()
    strange = table.loc[~texts.astype(bool), "label"].tolist()
    if strange:
        raise DataError(
            f"expected names of classes (text) in the column label of the table that the reader of the data set "
            f"returns, got {strange[0]!r} ({type(strange[0]).__name__}); write str(label) for each image, and None "
            f"where there is no label"
        )


def require_any_mask(table: pd.DataFrame, use: str) -> None:
    """Checks that at least one image of a table has a mask; `use` is the value of `dataset.mask`.

    Raises:
        MissingPicturesError: no image has a mask.
    """
    if table["mask_path"].isna().all():
        raise MissingPicturesError(
            f"expected lesion masks for dataset.mask={use}, got {len(table):,} images without one. A table "
            f"(dataset=csv) names their files in a column: add 'dataset.columns={{mask_path: COLUMN}}'",
            ". Without masks, set dataset.mask=none",
        )


def leave_out_unreadable(
    table: pd.DataFrame, errors: dict[str, str], options: TableOptions, flow: Flow
) -> pd.DataFrame:
    """Returns `table` without the images that cannot be decoded.

    Args:
        table: the table of the data set.
        errors: image id -> why the image cannot be decoded.
        options: whether such images are an error.
        flow: receives the images that are left out.

    Raises:
        DataError: there are such images and `on_bad_image` is `error`, or a class has no other images.
    """
    bad = table["image_id"].isin(errors)
    if bad.any() and options.on_bad_image == "error":
        cases = [f"{key}: {errors[key]}" for key in table.loc[bad, "image_id"]]
        raise DataError(
            f"expected {len(table):,} readable images, but {len(cases)} cannot be used:\n{first_cases(cases)}\n"
            f"replace these files, or {SKIP_HINT}"
        )
    if bad.any():
        left_out = [(key, errors[key]) for key in table.loc[bad, "image_id"]]
        flow.left_out.extend(left_out)
        _record(f"left out: {_images(len(left_out))} that cannot be decoded", map(": ".join, left_out), flow)
        whole, table = table, table[~bad].reset_index(drop=True)
        _check_classes_kept(whole, table, options, flow)
        flow.note("with an image that can be decoded", table)
    return table


def to_target(
    table: pd.DataFrame, target: Literal["diagnosis", "malignant"], chosen: str | None = None
) -> pd.DataFrame:
    """Returns `table` with the labels of the task; for `malignant` the diagnosis is kept in the column `diagnosis`.

    A diagnosis that may be malignant or benign is kept as label if only the published test part has images of it. The
    network is not trained on it, and with split=official it counts as an unknown class.

    Args:
        table: the table of the data set.
        target: the value of `task.target`.
        chosen: the `dataset.filter` in use, for messages.

    Raises:
        DataError: some other diagnosis may be malignant or benign, or is unknown to the taxonomy.
    """
    if target == "diagnosis":
        return table
    assert target == "malignant", target
    published = table["official_split"] if "official_split" in table else pd.Series("", index=table.index)
    elsewhere = set(table.loc[published != "test", "label"])
    counts = table["label"].value_counts().sort_index()
    kinds = {str(label): taxonomy.malignancy(str(label)) for label in counts.index if label != UNLABELLED}
    undetermined = [label for label, malignant in kinds.items() if malignant is None and label in elsewhere]
    if undetermined:
        cases = [
            f"{label!r} ({counts[label]} images){'' if taxonomy.code_of(label) else taxonomy.hint(label)}"
            for label in undetermined
        ]
        conditions = " and ".join(f"label != {json.dumps(label, ensure_ascii=False)}" for label in undetermined)
        wanted = f"({chosen}) and {conditions}" if chosen else conditions
        raise DataError(
            f"expected classes that are malignant or benign, but the taxonomy does not say which of the two "
            f"these are:\n{first_cases(cases, 20)}\ngive these images another class in the table (with dataset=csv "
            f"or folder also in dataset.labels={{LABEL: CLASS,...}}), leave them out with "
            f"{as_override('dataset.filter', wanted)}, or set task.target=diagnosis"
        )
    names = {label: code for label in kinds if (code := taxonomy.code_of(label)) != label}
    for label, code in names.items():
        log.info("%r counts as %s (%s)", label, code, "malignant" if kinds[label] else "benign")
    targets = {None: None, True: "malignant", False: "benign"}
    named = {label: targets[malignant] or label for label, malignant in kinds.items()}
    labels = table["label"].map({**named, UNLABELLED: UNLABELLED})
    return table.assign(diagnosis=table["label"], label=labels.astype(object))


def limit_lesions(table: pd.DataFrame, limit: int, seed: int) -> pd.DataFrame:
    """Returns the rows of `limit` lesions, a random sample that is stratified by class.

    Every class keeps at least three lesions if it has them, one for each part of a split, so that there are more than
    `limit` lesions where that is too few for all classes.

    Args:
        table: the table of the data set.
        limit: number of lesions; an image without a lesion id counts as one.
        seed: seed of the sample.
    """
    lesion = table["lesion_id"].where(table["lesion_id"].notna(), "image " + table["image_id"])
    first_label = table["label"].groupby(lesion, sort=True).first()
    rng = np.random.default_rng([seed, 0x11])
    kept: list[str] = []
    classes = [np.asarray(lesions.index, dtype=object) for _, lesions in first_label.groupby(first_label, sort=True)]
    counts = _limited_counts(np.array([len(lesions) for lesions in classes]), limit)
    for lesions, count in zip(classes, counts, strict=True):
        kept.extend(rng.permutation(lesions)[:count])
    return table[lesion.isin(kept)]


def _limited_counts(sizes: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.int64]:
    """Returns how many lesions of each class are kept: in proportion to its size, at least three, `limit` in all."""
    exact, least = sizes * (limit / sizes.sum()), np.minimum(sizes, 3)
    counts: npt.NDArray[np.int64] = np.clip(exact.round().astype(np.int64), least, sizes)
    while counts.sum() < min(limit, sizes.sum()):
        counts[np.where(counts < sizes, exact - counts, -np.inf).argmax()] += 1
    while counts.sum() > limit and (counts > least).any():
        counts[np.where(counts > least, exact - counts, np.inf).argmin()] -= 1
    return counts


def _warn_of_synonyms(table: pd.DataFrame) -> None:
    """Warns about classes that are one diagnosis in several spellings (`bcc` and `basal cell carcinoma`)."""
    counts = table["label"].value_counts().sort_index()
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in map(str, counts.index):
        spellings[taxonomy.same_name(label)].append(label)
    cases = [
        " and ".join(f"{label!r} ({counts[label]:,} images)" for label in several)
        for several in spellings.values()
        if len(several) > 1
    ]
    if cases:
        record_finding(
            f"{len(cases)} diagnoses are split into several classes, because their labels are spelled differently; "
            f"give each diagnosis one label (with dataset=csv or folder in dataset.labels={{LABEL: CLASS,...}})",
            cases,
            level="warning",
        )


def _have_several_labels(table: pd.DataFrame) -> pd.Series:
    """Returns which rows have an image id whose rows do not agree on the label."""
    return _labels_or_texts(table).groupby(table["image_id"]).transform("nunique") > 1


def _labels_or_texts(table: pd.DataFrame) -> pd.Series:
    """Returns the label of each row; where it is unknown, the text of the files if there is one."""
    return table["label"].where(table["label"].notna(), table.get("raw_label"))


def _check_usable(table: pd.DataFrame, missing: pd.Series) -> None:
    """Checks that no row has a fault. The error names all kinds of faults with the first cases of each.

    Args:
        table: the whole table.
        missing: which rows have no image file.

    Raises:
        DataError: rows have a fault.
    """
    several = _have_several_labels(table)
    kinds: tuple[tuple[str, pd.Series, _Describe], ...] = (
        (_SEVERAL_LABELS, several, _labels_of_ids(_labels_or_texts(table))),
        (_DOUBLED, table["image_id"].duplicated() & ~several, _ids),
        (_NO_FILE, missing, _ids),
        (_NO_LABEL, table["label"].isna(), _unknown_labels(table)),  # the last: its remedy continues in the common one
    )
    faults = []
    for what, bad, describe in kinds:
        if bad.any():
            cases, explanation = describe(table[bad])
            faults.append(f"{bad.sum()} have a fault ({what}):\n{first_cases(cases)}\n{explanation}")
    if faults:
        raise DataError(
            f"expected every row of the data set to be usable, but {''.join(faults)}correct the data set's table or "
            f"files, or {SKIP_HINT}"
        )


def _usable(table: pd.DataFrame, missing: pd.Series, flow: Flow) -> pd.DataFrame:
    """Returns `table` without the rows that have a fault, and each image id once.

    Of rows with the same id the first is kept if all agree on the label, otherwise none.
    """
    labels = _labels_of_ids(_labels_or_texts(table))
    table = _leave_out(table, _have_several_labels(table), _SEVERAL_LABELS, flow, labels)
    table = _leave_out(table, table["image_id"].duplicated(), _DOUBLED, flow, _ids)
    table = _leave_out(table, missing[table.index], _NO_FILE, flow, _ids)
    return _leave_out(table, table["label"].isna(), _NO_LABEL, flow, _unknown_labels(table))


def _leave_out(table: pd.DataFrame, bad: pd.Series, what: str, flow: Flow, describe: _Describe) -> pd.DataFrame:
    if not bad.any():
        return table
    rows = table[bad]
    cases, _ = describe(rows)
    flow.left_out.extend((str(key), what) for key in rows["image_id"])
    _record(f"left out: {len(rows):,} rows ({what})", cases, flow)
    return table[~bad]


def _record(text: str, cases: Iterable[str], flow: Flow) -> None:
    with collected_findings() as found:
        record_finding(text, cases, level="warning")
    flow.findings.extend(found)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _check_classes_kept(whole: pd.DataFrame, kept: pd.DataFrame, options: TableOptions, flow: Flow) -> None:
    """Checks that every class of `whole` has an image in `kept`, except for classes that `dataset.filter` leaves out.

    Raises:
        DataError: a class has no image left.
    """
    lost = whole[whole["label"].notna() & ~whole["label"].isin(kept["label"])]
    if len(lost) and options.filter:
        lost = filter_rows(lost, options.filter)
    if lost.empty:
        return
    reasons = dict(flow.left_out)
    why = lost["image_id"].map(lambda name: reasons.get(str(name), "unknown"))
    cases = [
        f"{label}: {len(rows):,} images left out ({rows.value_counts().index[0]})"
        for label, rows in why.groupby(lost["label"])
    ]
    others = " and ".join(
        f"label != {json.dumps(label, ensure_ascii=False)}" for label in sorted(lost["label"].unique())
    )
    wanted = f"({options.filter}) and {others}" if options.filter else others
    raise DataError(
        f"expected usable images of every class, but none is left of these:\n{first_cases(cases)}\n"
        f"replace the files, or leave the classes out with {as_override('dataset.filter', wanted)}"
    )


def _nothing_left(options: TableOptions, flow: Flow) -> str:
    """Returns the message that no image is left; it names the keys that may be the reason."""
    if not flow.steps[1].images:
        counts = ", ".join(f"{count:,} {why}" for why, count in Counter(why for _, why in flow.left_out).most_common(3))
        return (
            f"expected images in the data set, but each of its {flow.steps[0].images:,} rows is left out ({counts}); "
            f"check dataset.root and the table of the data set"
        )
    keys = [f"dataset.filter={options.filter!r}"] if options.filter else []
    keys += ["dataset.drop_unknown=true"] if options.drop_unknown else []
    return (
        f"expected images after {' and '.join(keys)}, but none of {flow.steps[1].images:,} is left; loosen or remove "
        f"{'these keys' if len(keys) > 1 else 'this key'}"
    )


def _ids(rows: pd.DataFrame) -> tuple[Sequence[str], str]:
    return [str(name) or "(a row without an image_id)" for name in rows["image_id"]], ""


def _labels_of_ids(labels: pd.Series) -> _Describe:
    def describe(rows: pd.DataFrame) -> tuple[Sequence[str], str]:
        by_id = labels[rows.index].groupby(rows["image_id"], sort=True).unique()
        return [f"{image_id}: {', '.join(map(str, sorted(found)))}" for image_id, found in by_id.items()], ""

    return describe


def _unknown_labels(table: pd.DataFrame) -> _Describe:
    """Returns a description of rows with unknown labels: their labels with counts, and the known labels of the set."""
    known = table["label"].value_counts()

    def describe(rows: pd.DataFrame) -> tuple[Sequence[str], str]:
        counts = rows["raw_label"].value_counts()
        cases = [f"{label!r} ({count} rows){_meant(str(label), set(known.index))}" for label, count in counts.items()]
        there = ", ".join(f"{label} ({count} rows)" for label, count in known.sort_index().items())
        own = "give each label its class in dataset.labels={LABEL: CLASS,...}; otherwise "
        return cases, f"known labels of the set: {there or 'none'}\n{own if _MAPPED & set(rows['source']) else ''}"

    return describe


def _meant(label: str, known: set[str]) -> str:
    if not label:
        return ": no label"
    if is_missing(label):
        return ": it may be a class of this name, or a missing label"
    code = taxonomy.code_of(label)
    if code is not None:
        return "" if code == label else f": the name of {taxonomy.in_words(code)}"
    meant = taxonomy.hint(label, known) or taxonomy.hint(label)
    return meant.replace("; ", ": ", 1)


def _drop_unknown(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["age"].notna() & (table["sex"] != UNKNOWN) & (table["site"] != UNKNOWN)]
