"""A folder with a sub-folder of images for each class, optionally below train, val and test."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

import pandas as pd

from lesion_exp.archive import SEPARATOR
from lesion_exp.dataset.info import DatasetInfo
from lesion_exp.dataset.source_files import SourceFiles
from lesion_exp.dataset.table import OFFICIAL_PARTS, map_labels, standardize
from lesion_exp.errors import ConfigError, DataError, first_cases
from lesion_exp.image_file import IMAGE_SUFFIXES

NO_FOLDER: Final = "(in no class folder)"

INFO: Final = DatasetInfo(
    name="folder",
    title="a folder with a sub-folder a class",
    citation="none: data of the user's own",
    licence="that of the data",
    where="CLASS/*.jpg or train|val|test/CLASS/*.jpg below one folder, zipped or unpacked",
)


def read_folder(root: str, lesion_pattern: str | None = None) -> pd.DataFrame:
    """The table of all images below `root`; the class is the name of the first folder, in lower case.

    Where the first folders are train, val and test the second ones are the classes, `official_split` tells the part. A
    zip stands for the folder that it was made of (`nv.zip` without folders inside is the class nv). `image_id` is the
    path without ending. `lesion_pattern` is a regular expression, searched in the path; its first group is the
    `lesion_id`, images where it is not found are lesions of their own.

    Raises:
        ConfigError: the pattern is no regular expression, has no group, or fits no image.
        DataError: there is no image, or only some of the folders are parts of a split.
    """
    files = SourceFiles(root, "the class folders")
    images = _images(files)
    if not images:
        listed = first_cases(files.shorten(locator) for locator in files.locators)
        raise DataError(
            f"expected images in a sub-folder a class below {files.root}, found {len(files.locators)} other files; set "
            f"dataset.root=DIR to the folder that holds a folder a class\n{listed}".rstrip()
        )
    rows = _rows(images, files)
    frame = map_labels(pd.DataFrame(rows), "folder", {row["folder"]: row["folder"].lower() for row in rows})
    frame.loc[frame["folder"] == NO_FOLDER, "label"] = None
    if lesion_pattern is not None:
        frame["lesion_id"] = _lesions(frame["image_id"], lesion_pattern)
    return standardize(frame.drop(columns="folder"), INFO.name)


class _Image(NamedTuple):
    locator: str
    path: PurePosixPath
    """Path below the folder or zip, without folders that wrap everything else."""


def _images(files: SourceFiles) -> list[_Image]:
    by_container: dict[str, list[_Image]] = defaultdict(list)
    for locator in files.locators:
        container = locator.rpartition(SEPARATOR)[0]
        inner = locator.rpartition(SEPARATOR)[2] if container else files.shorten(locator)
        if PurePosixPath(inner).suffix.lower() in IMAGE_SUFFIXES:
            by_container[container].append(_Image(locator, PurePosixPath(inner)))
    unpacked = _unwrapped(by_container.pop("", []), "")
    paths = {image.path for image in unpacked}
    zipped = [image for zip_, found in by_container.items() for image in _unwrapped(found, Path(zip_).stem)]
    return unpacked + [image for image in zipped if image.path not in paths]  # a zip may lie beside what it held


def _unwrapped(images: list[_Image], archive: str) -> list[_Image]:
    """`images` without folders around all class folders; below the zip's name where that is a class or a part."""
    while True:
        first = {image.path.parts[0] for image in images}
        deep = all(len(image.path.parts) > 2 for image in images)
        if len(first) != 1 or not deep or _part(first.pop()):
            break
        images = [_Image(locator, PurePosixPath(*path.parts[1:])) for locator, path in images]
    flat = all(len(image.path.parts) == 1 for image in images)
    named_part = _part(archive) and not any(_part(image.path.parts[0]) for image in images)
    if archive and (flat or named_part):
        images = [_Image(locator, PurePosixPath(archive, path)) for locator, path in images]
    return images


def _part(folder: str) -> str | None:
    return OFFICIAL_PARTS.get(folder.lower())


def _rows(images: list[_Image], files: SourceFiles) -> list[dict[str, str]]:
    in_parts = [_part(path.parts[0]) is not None and len(path.parts) > 1 for _, path in images]
    if any(in_parts) and not all(in_parts):
        outside = [files.shorten(image.locator) for image, inside in zip(images, in_parts, strict=True) if not inside]
        raise DataError(
            f"expected all images in train, val or test folders, or none, but {len(outside)} of {len(images)} lie "
            f"elsewhere:\n{first_cases(outside)}\nmove them, or set dataset.root to one of the folders"
        )
    rows = []
    for locator, path in images:
        folders = path.parts[1:-1] if all(in_parts) else path.parts[:-1]
        row = {"image_id": str(path.with_suffix("")), "image_path": locator}
        row["folder"] = folders[0] if folders else NO_FOLDER
        if all(in_parts):
            row["official_split"] = OFFICIAL_PARTS[path.parts[0].lower()]
        rows.append(row)
    return rows


def _lesions(ids: pd.Series, pattern: str) -> pd.Series:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"expected a regular expression in dataset.lesion_pattern, got {pattern!r}: {error}; correct it"
        ) from error
    if not compiled.groups:
        raise ConfigError(
            f"expected dataset.lesion_pattern to have a group for the lesion, such as '(HAM_[0-9]+)', got {pattern!r}"
        )
    matches = [compiled.search(name) for name in ids]
    if not any(matches):
        raise ConfigError(
            f"expected dataset.lesion_pattern to fit paths such as {ids.iloc[0]!r}, but {pattern!r} fits none; correct "
            f"it, or set it to null"
        )
    return pd.Series([match[1] if match else None for match in matches], index=ids.index, dtype=object)
