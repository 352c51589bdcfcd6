"""The images that `input=` names, as a table with a row for each image.

| column | content |
|---|---|
| `image` | its name in the results: the path as the user gave it |
| `image_path` | locator of the file; None if no file is found |
| `error` | why no file is found, else empty |
| `age, sex, site, mask_path, clinical_path` | only of a csv that has them |
"""

from __future__ import annotations

import functools
import glob
import hashlib
import itertools
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import pandas as pd

from lesion_exp.archive import ZIP, file_of, members_of, split_locator
from lesion_exp.dataset.image_files import ImageNames
from lesion_exp.dataset.image_names import asks_for_masks, is_image, split_masks
from lesion_exp.dataset.source_files import distinct, files_below
from lesion_exp.dataset.table import standardize
from lesion_exp.errors import ConfigError, DataError
from lesion_exp.file_kind import IMAGE_SUFFIXES
from lesion_exp.text_table import read_csv as read_delimited
from lesion_exp.verbs.predict.request import IMAGE_COLUMNS, MAPPABLE, METADATA, PICTURES

log = logging.getLogger(__name__)

TABLE_SUFFIXES: Final = (".csv", ".tsv", ".tab")
_IMAGE_COLUMN: Final = "image_path (or image, or image_id: a file name below the csv's folder)"
_NO_FILE: Final = "expected an image file of this name, found none"

_MOST_LISTED: Final = 4
"""Largest number of files of the same name in a message."""

Row = tuple[str, str | None, str]


def images_of(source: str, needed: Sequence[str] = (), columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The images that `source` names: a file, a folder with its subfolders, a pattern, a zip or a csv.

    Args:
        source: a path or a pattern.
        needed: columns that the network reads beside the image.
        columns: names of columns in the csv, by those in `MAPPABLE`.

    Raises:
        DataError: there is nothing at `source`, or no image, or a column is missing.
        ConfigError: `columns` is given without a csv, or contains an unknown name.
    """
    path = Path(source).expanduser()
    is_file = _is_file(path)
    if path.suffix.lower() in TABLE_SUFFIXES and is_file:
        return _of_table(path, needed, columns or {})
    if columns:
        raise ConfigError(_no_csv(source))
    if needed:
        raise DataError(
            f"expected a csv with the columns image_path, {', '.join(needed)}, since this network reads them beside "
            f"the image, got {source}; write a csv with a row for each image"
        )
    if os.path.isdir(path):  # noqa: PTH112
        rows = _without_masks(_of_folder(path, source), source)
    elif path.suffix.lower() == ".zip" and is_file:
        rows = _without_masks(_of_zip(str(path.absolute()), source), source)
    elif is_file or _is_member(source):
        rows = [(source, str(path.absolute()), "")]
    elif glob.has_magic(str(path)):
        rows = _of_pattern(str(path))
        start = _before_pattern(str(path))
        rows = rows if asks_for_masks(str(path).removeprefix(start)) else _without_masks(rows, start)
    else:
        raise DataError(_nothing_at(source))
    if not rows:
        raise DataError(_no_image_at(source))
    named = [(_shown(name), locator, error) for name, locator, error in rows]
    return pd.DataFrame(named, columns=["image", "image_path", "error"], dtype=object)  # names need not be UTF-8


def check_source(source: str, columns: Mapping[str, str] | None = None) -> None:
    """Checks that there is something at `source`, and images by their names or a csv of images; no image is read.

    Args:
        source: see `images_of`.
        columns: see `images_of`.

    Raises:
        DataError: there is nothing, or no image, or a csv without a column or without rows.
        ConfigError: see `images_of`.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() in TABLE_SUFFIXES and _is_file(path):
        _read_table(path, (), columns or {})
    elif columns:
        raise ConfigError(_no_csv(source))
    elif not (os.path.isdir(path) or _is_file(path) or _is_member(source) or glob.has_magic(str(path))):  # noqa: PTH112
        raise DataError(_nothing_at(source))
    elif not _has_image(path, source):
        raise DataError(_no_image_at(source))


def _has_image(path: Path, source: str) -> bool:
    """Whether there is an image, or a file that may turn out to be or to hold one."""
    if os.path.isdir(path):  # noqa: PTH112
        return any(is_image(str(file)) or file.suffix.lower() == ZIP for file in files_below(path))
    if path.suffix.lower() == ZIP and _is_file(path):
        try:
            return any(map(is_image, members_of(str(path.absolute()))))
        except DataError:
            return True  # the results say what is wrong with it
    return _is_file(path) or _is_member(source) or any(glob.iglob(str(path), recursive=True))  # noqa: PTH207


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - also of names too long for a disk


def _no_csv(source: str) -> str:
    return f"expected a csv as input beside columns=, got {source}; leave columns= out"


def _nothing_at(source: str) -> str:
    return f"expected a file, folder, pattern, zip or csv of images at input={source}, found nothing"


def _no_image_at(source: str) -> str:
    return f"expected images ({', '.join(sorted(IMAGE_SUFFIXES))}) at input={source}, found none"


def contents_digest(images: pd.DataFrame) -> str:
    """SHA-256 (16 digits) of the names and of the sizes and modification times of the files, to detect changes."""
    digest = hashlib.sha256()
    stamps: dict[str, str] = {}
    for row in images.to_dict("records"):
        for value in row.values():
            digest.update(str(value).encode("utf-8", "backslashreplace") + b"|")
        digest.update(_stamp(row["image_path"], stamps).encode() + b"\n")
    return digest.hexdigest()[:16]


def _of_folder(path: Path, shown: str) -> list[Row]:
    rows, others = _listed(path, shown)
    _log_left_out(others, shown)
    return rows


def _listed(path: Path, shown: str) -> tuple[list[Row], Counter[str]]:
    """The images below a folder, and the number of other files there, by their endings."""
    rows: list[Row] = []
    others: Counter[str] = Counter()
    root = path.absolute()
    for file in sorted(files_below(root)):
        name = os.path.join(shown, file.relative_to(root))  # noqa: PTH118 - keeps what the user wrote, also ./
        if file.suffix.lower() == ".zip":
            rows += _of_zip(str(file), name)
        elif is_image(file.name):
            rows.append((name, str(file), ""))
        else:
            others[file.suffix or "without ending"] += 1
    return rows, others


def _of_zip(path: str, shown: str) -> list[Row]:
    try:
        members = list(members_of(path))
    except DataError as error:
        return [(shown, None, str(error))]
    others = Counter(PurePosixPath(member).suffix or "without ending" for member in members if not is_image(member))
    _log_left_out(others, shown)
    return [(f"{shown}{member.removeprefix(path)}", member, "") for member in members if is_image(member)]


def _of_pattern(pattern: str) -> list[Row]:
    rows: list[Row] = []
    for found in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 - absolute patterns, too
        path = Path(found)
        if path.is_dir() and "**" not in pattern:
            rows += _of_folder(path, found)
        elif path.suffix.lower() == ".zip":
            rows += _of_zip(str(path.absolute()), found)
        elif path.is_file():
            rows.append((found, str(path.absolute()), ""))
    return rows


def _read_table(
    path: Path, needed: Sequence[str], columns: Mapping[str, str]
) -> tuple[pd.DataFrame, Mapping[str, str], str]:
    """The rows of a csv, the names of its columns by those in `MAPPABLE`, and which of these names the images."""
    unknown = [name for name in columns if name not in MAPPABLE]
    if unknown:
        raise ConfigError(f"expected the keys of columns= among {', '.join(MAPPABLE)}, got {unknown[0]}")
    raw = read_delimited(str(path))
    mapped = {name: name for name in MAPPABLE if name in raw} | dict(columns)
    lacking = [name for name in mapped.values() if name not in raw] + [name for name in needed if name not in mapped]
    key = next((name for name in IMAGE_COLUMNS if name in mapped), None)
    if key is None or lacking:
        wanted = [*([] if key else [_IMAGE_COLUMN]), *lacking]
        keys = [*([] if key else ["image_path"]), *(name for name in needed if name not in mapped)]
        keys += [name for name, column in mapped.items() if column not in raw]
        given = {name: column for name, column in columns.items() if column in raw}
        named = {**given, **dict.fromkeys(keys, "COLUMN")}
        raise DataError(
            f"expected the columns {', '.join(wanted)} in {path}, got {', '.join(raw.columns)}; name others with "
            f"columns='{{{', '.join(f'{name}: {column}' for name, column in named.items())}}}'"
        )
    if raw.empty:
        raise DataError(f"expected a row for each image in {path}, got a header alone; name a csv that has rows")
    return raw, mapped, key


def _of_table(path: Path, needed: Sequence[str], columns: Mapping[str, str]) -> pd.DataFrame:
    raw, mapped, key = _read_table(path, needed, columns)
    find = _finder(path.absolute().parent)
    names = raw[mapped[key]].fillna("").str.strip()
    paths, errors = zip(*(find(name) for name in names), strict=True)
    table = pd.DataFrame({"image": names, "image_path": paths, "error": errors}, dtype=object)
    _log_unfound(table["error"], path)
    for name in PICTURES:
        if name in mapped:
            found = [find(value)[0] if isinstance(value, str) else None for value in raw[mapped[name]]]
            table[name] = pd.Series(found, dtype=object)
    known = [name for name in METADATA if name in mapped]
    if known:
        values = raw[[mapped[name] for name in known]].set_axis(known, axis=1)
        table[known] = standardize(values.assign(image_id="", label=None), str(path))[known]
    return table


def _finder(folder: Path) -> Callable[[str], tuple[str | None, str]]:
    """A function that finds the file that a table names.

    The name is a path (absolute, or relative to `folder` or the current folder), or the name of a file below `folder`.
    The function returns the locator and an empty text, or None and the reason.
    """
    names_below = functools.cache(lambda: _names_below(folder))  # a folder is searched only if it must be

    def find(name: str) -> tuple[str | None, str]:
        text = name.replace("\\", "/")
        if not text:
            return None, _NO_FILE
        for start in (str(folder), os.curdir):
            candidate = os.path.abspath(os.path.join(start, text))  # noqa: PTH100, PTH118
            if os.path.isfile(candidate) or _is_member(candidate):  # noqa: PTH113 - a hundred thousand rows
                return candidate, ""
        found = distinct(names_below().find(text))
        if len(found) > 1:
            listed = ", ".join(each.removeprefix(f"{folder}/") for each in found[:_MOST_LISTED])
            more = f" and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
            return None, f"expected one file of this name, found {listed}{more}; write its path into the table"
        return (found[0], "") if found else (None, _NO_FILE)

    return find


def _names_below(folder: Path) -> ImageNames:
    """The images below `folder`, also in its zips, by their names; masks are found by their paths only."""
    listed = _listed(folder, str(folder))[0]
    for _, locator, error in listed:
        if locator is None:
            log.warning("%s", error)
    below = {locator.removeprefix(f"{folder}/"): locator for _, locator, _ in listed if locator is not None}
    return ImageNames((path, below[path]) for path in split_masks(below)[0])


def _without_masks(rows: list[Row], start: str) -> list[Row]:
    """`rows` without the masks and superpixels below `start`, whose number is logged.

    Raises:
        DataError: nothing else is left.
    """
    names = {name: name.removeprefix(start).lstrip("!/") for name, locator, _ in rows if locator}
    masks = set(split_masks(names.values())[1])
    kept = [row for row in rows if names.get(row[0]) not in masks]
    if rows and not kept:
        raise DataError(
            f"expected images at input={start}, got {len(rows):,} files that count as masks or superpixels by their "
            f"names or folders; name a file of them, or a pattern such as '*_mask.png'"
        )
    if masks:
        log.warning(
            "left out in %s, since they are masks or superpixels by their names or folders: %d files, such as %s",
            start,
            len(rows) - len(kept),
            min(masks),
        )
    return kept


def _before_pattern(pattern: str) -> str:
    """The folders of a pattern before its first wildcard."""
    return "/".join(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.split("/")))


def _log_unfound(errors: pd.Series, path: Path) -> None:
    missing = errors[errors != ""]
    if len(missing):
        log.warning(
            "%d of the %d images in %s have no file (see the column error), for example: %s",
            len(missing),
            len(errors),
            path,
            missing.iloc[0],
        )


def _log_left_out(others: Mapping[str, int], where: str) -> None:
    if others:
        listed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        log.info("left out in %s, since they are no image files by their names: %s", where, listed)


def _is_member(locator: str) -> bool:
    return bool(split_locator(locator)[0]) and os.path.isfile(file_of(locator))  # noqa: PTH113 - also of names too long for a disk


def _shown(name: str) -> str:
    """`name` as valid Unicode text; bytes that are none are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def _stamp(locator: str | None, known: dict[str, str]) -> str:
    path = file_of(locator or "")
    if path not in known:
        try:
            status = os.stat(path)  # noqa: PTH116 - one call for many files
            known[path] = f"{status.st_size}.{status.st_mtime_ns}"
        except OSError:
            known[path] = "absent"
    return known[path]
