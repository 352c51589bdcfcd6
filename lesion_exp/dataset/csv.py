"""Reads any delimited table of images. The config maps its columns; labels are names or one-hot."""

from __future__ import annotations

import logging
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pandas as pd

from lesion_exp.archive import file_of, split_locator
from lesion_exp.dataset.image_files import Choice, locate_files, locate_images
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import (
    OFFICIAL_PARTS,
    PREDICTED,
    STANDARD_COLUMNS,
    DatasetInfo,
    as_label,
    config_texts,
    map_labels,
    named_columns,
    named_labels,
    one_hot_label,
    require_columns,
    standardize,
)
from lesion_exp.errors import ConfigError, DataError, nearest
from lesion_exp.image_ids import clean_name, plain_ids, without_suffix
from lesion_exp.text_table import AUTO, EMPTY_WORDS
from lesion_exp.text_table import read_csv as read_delimited

log = logging.getLogger(__name__)

MAPPABLE: Final = (
    *(column for column in STANDARD_COLUMNS if column not in {"row_id", "source"}),
    "clinical_path",
    "official_split",
)
PATHS: Final = {
    "image_path": "image files",
    "mask_path": "masks",
    "clinical_path": "clinical photographs",
}
"""Columns that name files -> what messages call the files."""
REMEDY: Final = (
    "name the column of the images with dataset.columns={image_id: COLUMN}, set dataset.image_suffix to the text that "
    "follows the id in the files' names, or dataset.images to a pattern of the files"
)
PATH_REMEDY: Final = (
    "correct the paths in the table, or find the images by their ids by leaving out the column of the paths with "
    "'dataset.columns={image_path: null}'"
)
_NO_LABEL: Final = frozenset(word.lower() for word in EMPTY_WORDS)
"""Labels that may be classes or missing labels. They count as missing unless `dataset.labels` names them."""

INFO: Final = DatasetInfo(
    name="csv",
    title="a table of images",
    citation="none: data of the user's own",
    licence="that of the data",
    where="a csv and its images, zipped or unpacked, below one folder",
)


def read_csv(
    root: str,
    table: str,
    columns: Mapping[str, str | None] | None = None,
    one_hot: Sequence[str] | None = None,
    labels: Mapping[str, str | None] | None = None,
    images: str = "*",
    image_suffix: str = "",
    encoding: str = AUTO,
    ignore: Sequence[str] = (),
) -> pd.DataFrame:
    """Reads the table of a data set from a delimited file.

    The image of a row is found by `image_path` if the table has this column (absolute, or relative to the table or to
    `root`, also inside a zip there), otherwise by `image_id`. Columns of the file whose names have a meaning in this
    software (`table.INTERNAL_NAMES`) but that are not mapped are renamed to `file_NAME`.

    Args:
        root: folder with the table and the images.
        table: name of the file, or a pattern (see `path_patterns`).
        columns: standard name -> column of the file. A column that has a standard name already needs no entry; the
            value None leaves such a column out. `label: None` is a table without labels.
        one_hot: columns of a one-hot ground truth; the label is the name of the column that holds the 1.
        labels: label -> class; other labels are unknown. None: the label in lower case is the class, except for `NA`
            and the like, which may be a class or a missing label.
        images: pattern of the image files. Masks are not images unless the pattern names them.
        image_suffix: text that follows `image_id` in the files' names; their ending is not needed.
        encoding: encoding of the file, see `text_table.read_text`.
        ignore: patterns of files that are not read.

    Raises:
        ConfigError: a key of `columns` is not a standard column, or labels or images have no column.
        DataError: the file or a column is missing, a row is not one-hot, or a part of the split has an unknown name.
    """
    files = SourceFiles(root, "the table of images", ignore)
    given = _checked(columns or {})
    one_hot = None if one_hot is None else config_texts(one_hot, "dataset.one_hot")
    locator = files.require(table, key="dataset.table")
    where = files.shorten(locator)
    raw = read_delimited(locator, encoding)
    mapped = {name: name for name in MAPPABLE if name in raw.columns and name not in given.values()} | given
    if one_hot:
        mapped["label"] = None
    require_columns(raw, [*filter(None, mapped.values()), *(one_hot or ())], where)
    _check_sufficient(mapped, one_hot, where, list(raw.columns))
    left_out = {name for name, column in given.items() if column is None}
    used = {*left_out, *filter(None, mapped.values()), *(one_hot or ())}
    own = raw[[column for column in raw.columns if column not in used]]
    frame = named_columns(own, where, {}, prefixes=(PREDICTED,)).assign(
        **{name: raw[column] for name, column in mapped.items() if column is not None}
    )
    if one_hot:
        frame["label"] = one_hot_label(raw, one_hot, where)
    elif mapped["label"] is None:
        frame["label"] = None
    if "official_split" in frame:
        frame["official_split"] = _parts(frame["official_split"], where)
    choice = Choice(images, "dataset.images", REMEDY)
    frame = _with_files(_with_labels(frame, labels), files, TablePaths(files, locator), choice, image_suffix)
    return standardize(frame, INFO.name)


class TablePaths:
    """Finds files by the paths in a table, zipped or not. A path may differ from the file in ending and capitals.

    Args:
        files: the files of the data set.
        table_locator: the table; its paths may be relative to it.
    """

    def __init__(self, files: SourceFiles, table_locator: str) -> None:
        self._table_dir = Path(files.root if split_locator(table_locator)[0] else table_locator).parent
        self._above = posixpath.dirname(_inside(files, table_locator))
        self._exact: dict[str, list[str]] = defaultdict(list)
        self._close: dict[str, list[str]] = defaultdict(list)
        for locator in files.locators:
            for path in {files.shorten(locator), _inside(files, locator)}:
                self._exact[clean_name(path)].append(locator)
                self._close[_bare(path)].append(locator)

    def find(self, path: str) -> list[str]:
        """Returns the files that a path in the table may mean."""
        text = clean_name(path)
        if posixpath.isabs(text):
            return [text] if os.path.isfile(file_of(text)) else []  # noqa: PTH113 - also of names too long for a disk
        places = dict.fromkeys((posixpath.normpath(posixpath.join(self._above, text)), posixpath.normpath(text)))
        for known, key in ((self._exact, str), (self._close, _bare)):
            found = dict.fromkeys(locator for place in places for locator in known.get(key(place), ()))
            if found:
                return list(found)
        beside = self._table_dir / text
        return [str(beside.resolve())] if text.startswith("../") and os.path.isfile(beside) else []  # noqa: PTH113


def _inside(files: SourceFiles, locator: str) -> str:
    """Returns the path in the innermost zip, or below the root."""
    container, member = split_locator(locator)
    return member if container else files.shorten(locator)


def _bare(path: str) -> str:
    return without_suffix(clean_name(path)).casefold()


def _checked(columns: Mapping[str, str | None]) -> dict[str, str | None]:
    for name in columns:
        if name not in MAPPABLE:
            raise ConfigError(
                f"expected the keys of dataset.columns to be standard columns, got {name!r}; {nearest(name, MAPPABLE)}"
            )
    return {
        name: None if column is None else config_texts([column], f"dataset.columns.{name}")[0]
        for name, column in columns.items()
    }


def _check_sufficient(
    mapped: Mapping[str, str | None], one_hot: Sequence[str] | None, where: str, found: list[str]
) -> None:
    there = f"got neither; the columns are {', '.join(found)}"
    if not one_hot and "label" not in mapped:
        raise ConfigError(
            f"expected a column label in {where}, or a key that names the labels, dataset.columns={{label: COLUMN}} or "
            f"dataset.one_hot=[COLUMN,...] (for pretraining without labels: dataset.columns={{label: null}}), {there}"
        )
    if mapped.get("image_id") is None and mapped.get("image_path") is None:
        raise ConfigError(
            f"expected a column image_id or image_path in {where}, or a key that names the images, "
            f"dataset.columns={{image_id: COLUMN}} or dataset.columns={{image_path: COLUMN}}, {there}"
        )


def _parts(values: pd.Series, where: str) -> pd.Series:
    """Returns the standard names of the parts, None for rows without one."""
    parts = values.str.lower()
    strange = sorted(set(parts.dropna()) - OFFICIAL_PARTS.keys())
    if strange:
        raise DataError(
            f"expected train, val and test in the column official_split of {where}, got {', '.join(strange)}; rename "
            f"them, or leave the column out with dataset.columns={{official_split: null}}"
        )
    return pd.Series([OFFICIAL_PARTS.get(part) for part in parts], index=values.index, dtype=object)


def _with_labels(frame: pd.DataFrame, labels: Mapping[str, str | None] | None) -> pd.DataFrame:
    found = [str(name) for name in frame["label"].dropna().unique()]
    if labels is None:
        known = {name: as_label(name) for name in found if name.lower() not in _NO_LABEL}
    else:
        known = named_labels(labels, found)
    return map_labels(frame.rename(columns={"label": "found_label"}), "found_label", known, names=False).drop(
        columns="found_label"
    )


def _with_files(
    frame: pd.DataFrame, files: SourceFiles, paths: TablePaths, choice: Choice, suffix: str
) -> pd.DataFrame:
    named = {name: frame[name].dropna() for name in PATHS if name in frame}
    others = {locator for name in named if name != "image_path" for path in named[name] for locator in paths.find(path)}
    pool = [locator for locator in files.images if locator not in others]
    located = {}
    for name, column in named.items():
        ours = pool if name == "image_path" else ()
        found = locate_files(column, paths.find, ours, files, replace(choice, remedy=PATH_REMEDY), PATHS[name])
        located[name] = found.reindex(frame.index).astype(object).where(frame[name].notna(), None)
    if "image_id" not in frame:
        ids = [re.sub(r"\.[^./\\]+$", "", str(path).strip()) for path in frame["image_path"]]
        frame = frame.assign(image_id=ids)
    elif "image_path" not in frame:
        files.read_masks.update(others)
        names = frame["image_id"] if not suffix else plain_ids(frame["image_id"]) + suffix
        located["image_path"] = locate_images(names, files, choice)
    return frame.assign(**located)
