"""The true classes with which predictions of a file are evaluated: of a data set, of a table, or of another run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from lesion_exp.dataset.display_name import display_name
from lesion_exp.dataset.isic2018 import UNSCORED
from lesion_exp.dataset.loading import Flow
from lesion_exp.dataset.path_patterns import as_override
from lesion_exp.dataset.table import map_labels, one_hot_label, standardize
from lesion_exp.errors import ConfigError, DataError, first_cases
from lesion_exp.evaluation.challenge_format import BENIGN, MALIGNANT, TARGET, format_of
from lesion_exp.evaluation.predictions import ENERGY, LABELS_ONLY, PREFIX, RESCALED, classes_of
from lesion_exp.image_ids import plain_ids
from lesion_exp.taxonomy import DIAGNOSES, code_of
from lesion_exp.text_table import as_numbers, typed
from lesion_exp.text_table import read_table as read_file
from lesion_exp.tracking import artifacts
from lesion_exp.tracking.stored_run import Run, check_classifies, read_predictions
from lesion_exp.training.data import read_table
from lesion_exp.verbs.evaluate.given_predictions import part_of

_EVALUATED: Final = ("val", "test")
_LABELS: Final = ("label", "dx", "diagnosis", "diagnostic")
_UNREAD_LABELS: Final = (TARGET, "class")
"""Names of columns that may hold true classes, but are not read as labels."""
_NAMES: Final = {
    **dict.fromkeys(("image", "image_name", "isic_id", "img_id"), "image_id"),
    **dict.fromkeys(("age_approx",), "age"),
    **dict.fromkeys(("gender",), "sex"),
    **dict.fromkeys(("anatom_site_general", "anatom_site_general_challenge", "localization"), "site"),
}
"""Columns of published tables -> standard columns."""
_KEPT: Final = ("image_id", "lesion_id", "patient_id", "age", "sex", "site", "split")


@dataclass(frozen=True)
class TrueClasses:
    """The images with their true classes."""

    table: pd.DataFrame
    """A row for each image with the standard columns and `split`: val, test, or train for images that are not
    evaluated."""
    source: str
    """The name of the data set, the file or the run."""
    classes: tuple[str, ...] = ()
    """The classes of the run that the images are those of; empty if they are not those of a run."""
    own_parts: bool = False
    """Whether the parts are those of a run or of the data set itself, so that a file may also have other images."""
    unscored: frozenset[str] = frozenset()
    """Images that a challenge does not count."""
    of_data_set: bool = False
    """Whether they are the images of `dataset=`."""


def of_run(run: Run) -> TrueClasses:
    """Returns the validation and test images of `run`, with the columns of its predictions tables.

    Raises:
        ConfigError: the run is a pretraining.
        DataError: the run has stored no predictions.
    """
    check_classifies(run, "like=")
    tables = {
        part: read_predictions(run, part, with_unknown=True)
        for part in _EVALUATED
        if run.fetch(artifacts.predictions(part)) is not None
    }
    if not tables:
        raise DataError(
            f"expected a run that has stored predictions for like=, got {run.run_id} ({run.status}) without any; name "
            f"a run that has finished"
        )
    classes = classes_of(next(iter(tables.values())))
    predicted = [f"{PREFIX}{name}" for name in classes]
    rows = pd.concat([table.assign(split=part) for part, table in tables.items()], ignore_index=True)
    rows = rows.drop(columns=[*predicted, "prediction", ENERGY, LABELS_ONLY, RESCALED], errors="ignore")
    return TrueClasses(rows, f"run {run.run_id[:8]} ({run.name})", classes, own_parts=True)


def of_file(path: Path) -> TrueClasses:
    """Returns the images of a table: a ground truth of an ISIC challenge, or one with `image_id` and `label`.

    Raises:
        DataError: the file has no ids or labels, several columns of true classes, or a row that is not one-hot; or an
            id occurs twice with different labels.
    """
    frame = read_file(path, "true classes")
    challenge = format_of(set(frame.columns))
    named = _named(frame, path.name)
    if challenge is not None:
        columns = {column: name for column, name in challenge.classes.items() if column in frame}
        if TARGET in columns:
            labelled = _malignant_or_benign(frame[TARGET])
        else:
            raw = one_hot_label(frame, columns, path.name)
            labelled = map_labels(pd.DataFrame({"raw": raw}), "raw", columns)
        named = named.assign(image_id=frame[challenge.key])
    elif {"image_id", MALIGNANT} <= set(named) and not set(_LABELS) & set(named):  # ISIC 2024 in the archive
        labelled = _malignant_or_benign(named[MALIGNANT])
        _refuse_other_classes(frame, labelled["label"], path.name)
    else:
        found = next((name for name in _LABELS if name in named), None)
        if "image_id" not in named or found is None:
            raise DataError(
                f"expected the columns image_id and label, or those of a ground truth of an ISIC challenge, in "
                f"{path.name}, got {', '.join(map(str, frame.columns))}; rename the columns, or use dataset=csv"
            )
        labelled = map_labels(named, found, {code: code for code in DIAGNOSES})
        lowered_text = labelled["raw_label"].str.lower()
        labelled["label"] = labelled["label"].where(labelled["label"].notna(), lowered_text)
    table = named.assign(label=labelled["label"], image_id=plain_ids(named["image_id"]))
    table = table[[*(name for name in _KEPT if name in table), "label"]]
    unscored = _unscored(frame, table["image_id"], None if challenge is None else challenge.name)
    table = table[~table["image_id"].isin(list(unscored))]
    bad = table[table["label"].isna() | (table["label"] == "") | table["image_id"].duplicated()]
    if len(bad):
        raise DataError(
            f"expected each image once, with its true class, in {path.name}, but {len(bad):,} of {len(table):,} rows "
            f"have none or repeat an id:\n{first_cases(bad['image_id'])}\ncorrect these rows"
        )
    return TrueClasses(_with_parts(standardize(table, path.stem), path.name), path.name, unscored=unscored)


def _malignant_or_benign(values: pd.Series) -> pd.DataFrame:
    """A table with the column `label`: malignant for 1 or true, benign for 0 or false, missing for other cells."""
    texts = values.map(str, na_action="ignore")  # parquet has numbers
    names = {0: BENIGN, 1: MALIGNANT}
    raw = typed(texts).map(names.get, na_action="ignore").astype(object).fillna("")
    return map_labels(pd.DataFrame({"raw": raw}), "raw", {name: name for name in names.values()})


def _refuse_other_classes(frame: pd.DataFrame, labels: pd.Series, file: str) -> None:
    """Refuses further columns of true classes beside `malignant`, except `benign` and `target` that say the same.

    Args:
        frame: the table as it is in the file.
        labels: the true classes by its column `malignant`.
        file: the name of the file.

    Raises:
        DataError: there are such columns.
    """
    columns = {str(name).strip().lower(): str(name) for name in frame}
    opposite = labels.map({BENIGN: MALIGNANT, MALIGNANT: BENIGN})
    same = {
        name
        for name, wanted in ((TARGET, labels), (BENIGN, opposite))
        if name in columns and list(_malignant_or_benign(frame[columns[name]])["label"]) == list(wanted)
    }
    classes = [name for name in columns if code_of(name) is not None]
    others = [name for name in columns if name in (*classes, *_UNREAD_LABELS) and name not in {MALIGNANT, *same}]
    if not others:
        return
    remedy = "keep one of them, and call a column with the names of classes label"
    if set(others) & set(classes):
        hot = as_override("dataset.one_hot", [columns[name] for name in classes])
        remedy += f"; a one-hot table is read with dataset=csv and {hot}"
    raise DataError(
        f"expected one column of true classes in {file}, got {columns[MALIGNANT]} beside "
        f"{', '.join(columns[name] for name in others)}; {remedy}"
    )


def _named(frame: pd.DataFrame, file: str) -> pd.DataFrame:
    """`frame` with names of columns in lower case, and with the standard names for those of published tables.

    Raises:
        DataError: two columns differ only in upper and lower case.
    """
    lowered = frame.rename(columns=lambda name: str(name).strip().lower())
    doubled = sorted(set(lowered.columns[lowered.columns.duplicated()]))
    if doubled:
        raise DataError(
            f"expected columns of {file} whose names differ in more than upper and lower case, got several that are "
            f"called {', '.join(doubled)}; rename or remove all but one of each"
        )
    standard: dict[str, str] = {}
    for name, ours in _NAMES.items():
        if name in lowered and ours not in lowered and ours not in standard.values():
            standard[name] = ours
    return lowered.rename(columns=standard)


def _unscored(frame: pd.DataFrame, ids: pd.Series, challenge: str | None) -> frozenset[str]:
    """The images to which the scorer of the challenge gives weight zero."""
    zero = ids.isin(UNSCORED) & (challenge == "isic2018")
    if "score_weight" in frame:
        zero |= as_numbers(frame["score_weight"]) == 0
    return frozenset(ids[zero])


def of_dataset(config: Mapping[str, Any]) -> TrueClasses:
    """Returns the images of the data set of `config`, whose files need not be there.

    Raises:
        ConfigError, DataError: see `training.data.read_table`.
    """
    node = config["dataset"]
    if node.get("pseudo_labels"):
        raise ConfigError("expected true classes, got dataset.pseudo_labels; leave the key out")
    table = _with_parts(read_table(config, Flow(), needs_images=False), display_name(node))
    unscored = UNSCORED if node["name"] == "isic2018" else frozenset()
    own_parts = bool((table["split"] != "test").any())
    return TrueClasses(table, display_name(node), own_parts=own_parts, unscored=unscored, of_data_set=True)


def _with_parts(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """`table` with `split`: the parts of the data set itself if it has a test part, else all images are test images.

    Raises:
        DataError: a column `split` of the file `source` has another value than the name of a part.
    """
    if "split" in table:
        return table.assign(split=[part_of(value, source) for value in table["split"]])
    published = table.get("official_split")
    if published is None or not (published == "test").any():
        return table.assign(split="test")
    return table.assign(split=published.where(published.isin([*_EVALUATED]), "train"))
